"""Wakes whoever waits for a run when it has ended, through the broker's publish and subscribe.

A call that nobody hears is gone, and other brokers than Redis carry none: whoever waits looks for himself as well.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import redis

log = logging.getLogger(__name__)

MOST = 16
"""Connections of one process that listen; who comes later looks for himself only."""

PATIENCE = 1.0
"""Seconds to wait for an answer of the broker."""

REST = 30.0
"""Seconds without another try after the broker could not be asked."""

Wait = Callable[[float], object]
"""Returns when the run has probably ended, at the latest after so many seconds."""


def ring(client: Any, runs: Collection[UUID]) -> None:
    """Tell everybody who listens on this Redis that these runs have ended."""
    pipe = client.pipeline(transaction=False)
    for run in runs:
        pipe.publish(_channel(run), b"")
    pipe.execute()


class Bell:
    """Listens; safe from many threads, and in forked children."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url if broker_url.startswith(("redis://", "rediss://")) else None
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[Any] = deque()
        self._used = 0
        self._counting = threading.Lock()
        self._silent_until = 0.0

    @contextmanager
    def listening(self, run: UUID) -> Iterator[Wait | None]:
        """Listen for the end of a run from now on; None where that cannot be done."""
        if self._pid != os.getpid():
            self._forget_everything()  # a connection must not be shared with the parent
        line = self._subscribed(run)
        if line is None:
            yield None
            return
        try:
            yield lambda seconds: self._wait(line, run, seconds)
        finally:
            self._hang_up(line, run)

    def close(self) -> None:
        """Close all connections that are idle."""
        while self._idle:
            self._idle.pop().close()

    def _subscribed(self, run: UUID) -> Any:
        if self._url is None or time.monotonic() < self._silent_until:
            return None
        line: Any = None
        try:
            line = self._line()
            if line is not None:
                line.subscribe(_channel(run))
                if not self._answered(line, run, "subscribe", PATIENCE):
                    raise redis.TimeoutError(f"no answer for {PATIENCE:g} s")
        except (redis.RedisError, OSError) as error:
            log.info("nobody can be woken by the broker, so results are looked for: %s", error)
            self._silent_until = time.monotonic() + REST
            self._drop(line)
            return None
        return line

    def _line(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            with self._counting:
                if self._used >= MOST:
                    return None
                self._used += 1
        client = redis.Redis.from_url(
            self._url or "", socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE
        )
        return client.pubsub()  # type: ignore[no-untyped-call]

    def _wait(self, line: Any, run: UUID, seconds: float) -> None:
        until = time.monotonic() + seconds
        try:
            self._answered(line, run, "message", seconds)
        except (redis.RedisError, OSError):
            # It is closed when the caller is done; until then time passes as it would in silence.
            time.sleep(max(0.0, until - time.monotonic()))

    def _answered(self, line: Any, run: UUID, kind: str, seconds: float) -> bool:
        """Whether a message of this kind about this run comes within the time; others are left-overs."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            message = line.get_message(timeout=left)
            if message and message["type"] == kind and message["channel"] == _channel(run).encode():
                return True
        return False

    def _hang_up(self, line: Any, run: UUID) -> None:
        try:
            line.unsubscribe(_channel(run))
        except (redis.RedisError, OSError):
            self._drop(line)
        else:
            self._idle.append(line)

    def _drop(self, line: Any) -> None:
        if line is not None:
            with self._counting:
                self._used -= 1
            line.close()


def _channel(run: UUID) -> str:
    return f"baton.ended.{run}"
