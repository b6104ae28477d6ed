"""The attempts that this process runs just now, so that they can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from uuid import UUID


class Attempt(NamedTuple):
    """One try of one step."""

    run_id: UUID
    path: str
    attempt: int


class Attempts:
    """What runs here, each with the way to stop it; safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Attempt, Callable[[], object]] = {}

    @contextmanager
    def running(self, attempt: Attempt, stop: Callable[[], object]) -> Iterator[None]:
        with self._lock:
            self._running[attempt] = stop
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(attempt, None)

    def all(self) -> list[Attempt]:
        with self._lock:
            return list(self._running)

    def stop(self, attempt: Attempt) -> None:
        """Stop this attempt, if it still runs: its outcome would be refused."""
        with self._lock:
            stop = self._running.get(attempt)
        if stop is not None:
            stop()
