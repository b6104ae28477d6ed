"""Notices a worker that lives and hears nothing, and heals it.

Consumers have been seen alive after a reconnect, with a turning loop, and without a message for hours. Such a worker
connects anew. One that stays deaf, or whose loop stands still, ends as failed, so that its supervisor starts another.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from celery.worker import state

from orchestrator.outages import BROKER
from workers.process import WorkerProcess

log = logging.getLogger(__name__)

DEAF = 5.0
"""Seconds for which messages wait in the queues of a worker that has room and accepts none."""

TRIES = 3
"""New connections after which it gives up."""

STUCK = 15.0
"""Seconds without a turn of the consumer's loop. Others have had its steps for long by then."""


class Hearing:
    """Of one worker; every method from one thread each."""

    def __init__(
        self,
        process: WorkerProcess,
        consumer: Any,
        queues: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._clock = clock
        self._consumer = consumer
        self._queues = frozenset(queues)
        self._accepted = 0
        self._since = self._looked = clock()
        self._tries = 0
        self._missed = 0

    def listen(self, unheard: Collection[str]) -> None:
        """Look whether this worker is among those that should take what waits in these queues."""
        now, accepted = self._clock(), state.all_total_count[0]
        heard = accepted != self._accepted or now - self._looked > DEAF
        self._accepted, self._looked = accepted, now
        if heard:
            self._tries = 0
        if heard or not self._queues.intersection(unheard) or self._is_excused():
            self._since = now
        elif now - self._since > DEAF:
            self._since = now
            self._connect_anew()

    def turned(self, *, turning: bool, every: float) -> None:
        """Told `every` so many seconds whether the loop turns; counted, since a clock runs on while we are frozen."""
        self._missed = 0 if turning else self._missed + 1
        if self._missed * every > STUCK:
            self._missed = 0
            log.critical("the loop of the consumer has stood still for %g s: this worker ends", STUCK)
            self._end()

    def _is_excused(self) -> bool:
        """It has its hands full, may be with messages whose rate makes them wait, or cannot hear just now."""
        waiting = any(bucket is not None and bucket.contents for bucket in tuple(self._buckets.values()))
        return bool(state.reserved_requests) or waiting or BROKER.lasts or self._process.leaving

    @property
    def _buckets(self) -> Mapping[str, Any]:
        buckets: Mapping[str, Any] = self._consumer.task_buckets
        return buckets

    def _connect_anew(self) -> None:
        self._tries += 1
        if self._tries > TRIES:
            log.critical("messages wait, and still none comes: this worker ends")
            self._end()
        else:
            log.warning("messages wait, and none comes: connecting to the broker anew")
            self._consumer.call_soon(_lose_connection)

    def _end(self) -> None:
        if self._process.drain is not None:
            self._process.drain.insist()


def _lose_connection() -> None:
    """Raised in the consumer's loop, which goes on as after any lost connection."""
    raise ConnectionResetError("no message came although some wait")
