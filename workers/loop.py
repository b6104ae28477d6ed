"""One event loop per process, on a thread of its own, shared by all async agents."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

FUNCTIONS = 32
"""Threads of functions that users give and that are not async: embedders, judges, batches."""


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
                threading.Thread(target=self._loop.run_forever, name="agents", daemon=True).start()
            return self._loop
