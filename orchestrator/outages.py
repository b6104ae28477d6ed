"""Says once that a server is away and once that it is back, whichever threads of this process notice it how often."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

FLICKER = 5.0
"""Seconds after an outage within which another one is part of it, unless it lasts longer: threads notice one by one."""


AGAIN = 1.0
"""Seconds between two tries of a server that is away, by one thread each: none of the others has to wait in vain."""


class Outage:
    """What this process knows of one server, and what it says when that goes away and comes back; for many threads."""

    def __init__(self, begins: str, ends: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._begins = begins
        self._ends = ends
        self._clock = clock
        self._begin()
        # Another thread may hold the lock at a fork.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._told = False
        self._ended = -FLICKER
        self._tried = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the server was away when it was last tried."""
        return self._since is not None

    def noticed(self, error: object) -> None:
        """A try has failed."""
        with self._lock:
            now = self._tried = self._clock()
            if self._since is None:
                self._since = now
            if not self._told and now - self._ended >= FLICKER:
                self._told = True
                log.warning("%s: %s", self._begins, _line(error))

    def worth_a_try(self) -> bool:
        """Whether the caller should try the server now: always, unless it is away and another one has just tried."""
        if self._since is None:
            return True
        with self._lock:
            now = self._clock()
            if now - self._tried < AGAIN:
                return False
            self._tried = now
            return True

    def over(self) -> None:
        """The server has answered."""
        if self._since is None:
            return
        with self._lock:
            told, self._since, self._told = self._told, None, False
            self._ended = self._clock()
            if told:
                log.warning("%s", self._ends)


POSTGRES = Outage("Postgres does not answer, waiting for it", "Postgres answers again")
CONNECTIONS = Outage(
    "all connections of this process to Postgres are in use", "there are free connections again"
)
BROKER = Outage("the broker does not answer, waiting for it", "the broker answers again")


def _line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
