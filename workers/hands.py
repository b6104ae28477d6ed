"""Threads that wait for servers while the event loop of their process goes on.

There are as many as a server has connections for them, so whatever comes beyond waits in a line and not in a thread.
They are for calls of ours that are short: statements, and scripts of Redis. What users give to be called may take its
time, and has threads of its own: those of the event loop (`workers.loop`) and those of tools (`workers.tools.threads`).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

CIRCUITS = 2
"""Threads that ask Redis for the states of circuits."""


class Hands:
    """All such threads of one process."""

    def __init__(self, connections: int = 4, beside: int = 2) -> None:
        """So many `connections` to Postgres there are for steps, and so many `beside` them for what agents share."""
        steps = Crew("hands", connections)
        self.journals = Line(steps)
        """What is done inside of steps and is not to be done again."""
        self.tools = Line(steps)
        """The log of tool calls, their cached results and their effects."""
        self.limits = Line(steps)
        self.budgets = Line(steps)
        self.sharing = Line(Crew("sharing", beside))
        """What agents share and remember. Writers that wait for each other hold up no journal."""
        self.circuits = Line(Crew("circuits", CIRCUITS))
        """Which calls the circuit breakers let through. A Redis that hangs holds up no statement."""


class Crew:
    """The threads that wait for one server: so many."""

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=name)
        self._at_work: set[int] = set()

    def start(self, work: Callable[[], object]) -> None:
        """Have the next thread that is free do this."""
        self._threads.submit(self._do, work)

    @property
    def is_here(self) -> bool:
        """Whether this is one of them."""
        return threading.get_ident() in self._at_work

    def _do(self, work: Callable[[], object]) -> None:
        here = threading.get_ident()
        self._at_work.add(here)
        try:
            work()
        finally:
            self._at_work.discard(here)


class Line:
    """Calls of one kind, in their order. Lines of a crew take turns, so a rush in one does not hold up the others."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._coming = 0
        """Threads that will take one of those that wait."""
        self._taken = 0
        """These, and those that work for this line."""

    def call(self, act: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Begin this; to be awaited on an event loop, which goes on meanwhile."""
        return asyncio.wrap_future(self.submit(act, *args))

    def submit(self, act: Callable[..., T], *args: Any) -> Future[T]:
        """Begin this. On a thread of this crew it is done at once: who waits for it there would keep it waiting."""
        future: Future[T] = Future()
        work = partial(_do, future, partial(act, *args))
        if self._crew.is_here:
            work()
            return future
        with self._lock:
            self._waiting.append(work)
            if self._taken == self._crew.size:
                return future
            self._taken += 1
            self._coming += 1
        self._crew.start(self._take)
        return future

    def _take(self) -> None:
        with self._lock:
            self._coming -= 1
            work = self._waiting.popleft()
        work()
        with self._lock:
            if len(self._waiting) <= self._coming:
                self._taken -= 1
                return
            self._coming += 1
        self._crew.start(self._take)  # behind what other lines want


def _do(future: Future[T], act: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = act()
    except BaseException as error:  # noqa: BLE001  raised again where it is awaited
        future.set_exception(error)
    else:
        future.set_result(result)
