"""Threads of sync tools: their own, and so many, so that those that hang hold up no other agent."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from schemas.errors import AgentError

log = logging.getLogger(__name__)

MOST = 64
"""Sync tools that run in a process at a time, those that nobody waits for any longer included."""


class ToolThreads:
    """The threads of one process. A thread that hangs does not keep the process from ending."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def work(self, tool: str) -> Work:
        """A piece of work of this tool, to be begun."""
        return Work(self, tool)

    @property
    def room(self) -> asyncio.Semaphore:
        """What each piece of work on this event loop passes."""
        return self._rooms.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self.most))

    def told(self) -> str:
        """Who holds them."""
        with self._lock:
            held = ", ".join(f"{name} {number}" for name, number in self._held.most_common(3))
        return f"all {self.most} threads of this process for sync tools are in use ({held})"

    def taken(self, tool: str) -> None:
        with self._lock:
            self._held[tool] += 1

    def given_back(self, tool: str) -> None:
        with self._lock:
            self._held[tool] -= 1
            self._held += Counter()


class Work:
    """One call of a sync function, in a thread that is its own."""

    def __init__(self, threads: ToolThreads, tool: str) -> None:
        self._threads = threads
        self._tool = tool
        self.begun = False
        self.ended = False

    @property
    def runs_on(self) -> bool:
        return self.begun and not self.ended

    async def run(self, function: Callable[[], Any]) -> Any:
        """What the function returns. Whoever stops waiting leaves the thread to itself."""
        loop, room = asyncio.get_running_loop(), self._threads.room
        await room.acquire()
        self.begun = True
        self._threads.taken(self._tool)
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, error: BaseException | None) -> None:
            room.release()
            if done.cancelled():
                log.warning("tool %s has ended, when nobody waited for it any longer", self._tool)
            elif error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        def work() -> None:
            result, failure = None, None
            try:
                result = context.run(function)
            except Exception as error:  # noqa: BLE001  raised again where it is awaited
                failure = error
            except BaseException as error:  # noqa: BLE001  a tool that exits must not take its neighbours with it
                failure = AgentError(f"tool {self._tool} tried to end its process: {error!r}")
            self.ended = True
            self._threads.given_back(self._tool)
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, failure)

        threading.Thread(target=work, name=f"tool-{self._tool}", daemon=True).start()
        return await done
