"""One event loop per process, on a thread of its own, shared by all async agents."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

log = logging.getLogger(__name__)

ENDING = 2.0
"""Seconds that may pass while a loop ends; its thread does not hold its process up."""

FUNCTIONS = 32
"""Threads of functions that users give and that are not async: embedders, judges, batches."""


_closers: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Callable[[], Awaitable[object]]]] = (
    WeakKeyDictionary()
)


def before_end(close: Callable[[], Awaitable[object]]) -> None:
    """Let this be awaited before the running loop ends, such as the end of connections that belong to it."""
    _closers.setdefault(asyncio.get_running_loop(), []).append(close)


class LoopThread:
    """Runs coroutines for other threads; started on first use, again after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        # The loop itself holds its tasks only weakly.
        self._kept: set[asyncio.Future[object]] = set()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def start_all(self, works: Sequence[Coroutine[Any, Any, object]]) -> None:
        """Start many coroutines at once; nobody waits for them."""
        self._running().call_soon_threadsafe(self._start_all, works)

    def _start_all(self, works: Sequence[Coroutine[Any, Any, object]]) -> None:
        for work in works:
            task = asyncio.ensure_future(work)
            self._kept.add(task)
            task.add_done_callback(self._kept.discard)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is not None and self._pid == os.getpid():
            return self._loop
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(ThreadPoolExecutor(FUNCTIONS, thread_name_prefix="function"))
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._loop.run_forever, name="agents", daemon=True)
                self._thread.start()
            return self._loop

    def end(self) -> None:
        """Close what belongs to the loop, and stop what still runs on it. It begins anew if it is asked again."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None or self._pid != os.getpid():
            return
        ended = asyncio.run_coroutine_threadsafe(_ended(loop), loop)
        try:
            ended.result(ENDING)
        except TimeoutError:
            log.warning("what agents hold does not end: the process goes on without it")
            return
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(ENDING)
        if not loop.is_running():
            loop.close()


async def _ended(loop: asyncio.AbstractEventLoop) -> None:
    for close in _closers.pop(loop, []):
        try:
            await close()
        except Exception as error:  # noqa: BLE001  the others are closed all the same
            log.warning("a connection did not end well: %s", error)
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await loop.shutdown_asyncgens()
