"""Says once a second that this worker lives, and stops what it should no longer run.

The beat is written by a thread, so that a slow database does not stop the consumer; but the thread beats only
while the consumer's own loop ticks. A worker that is connected and consumes nothing looks dead, as it should.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import psycopg
from celery import bootsteps
from psycopg_pool import PoolTimeout

from orchestrator.engine.values import WorkerBeat
from orchestrator.recovery import Recovery
from schemas.settings import settings
from workers.attempts import Attempt
from workers.process import WorkerProcess

log = logging.getLogger(__name__)

STILL = 2.5
"""Seconds without a tick of the consumer's loop after which the heart stops."""


class Heart:
    """The thread that beats, and sweeps for what others left undone."""

    def __init__(self, process: WorkerProcess, beat: WorkerBeat) -> None:
        self._process = process
        self._beat = beat
        self._stopped = threading.Event()
        self._ticked = time.monotonic()
        self._reachable = True
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tick(self) -> None:
        """The consumer's loop is turning."""
        self._ticked = time.monotonic()

    def stop(self) -> None:
        """Stop beating and say so, so that nobody waits for the lease to run out; may be called twice."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join(timeout=5)

    def _run(self) -> None:
        recovery = Recovery(self._process.engine, self._process.dispatcher)
        while not self._stopped.wait(settings().heartbeat / 2):
            self._guarded(lambda: self._pulse(recovery))
        self._guarded(lambda: self._process.engine.stop_worker())

    def _pulse(self, recovery: Recovery) -> None:
        if time.monotonic() - self._ticked < STILL:
            for lost in self._process.engine.beat(self._beat, self._process.attempts.all()):
                self._process.attempts.stop(Attempt(*lost))
        recovery.sweep()

    def _guarded(self, work: Any) -> None:
        """Wait out a server that is away: say it once, and once when it is back."""
        try:
            work()
        except (psycopg.Error, PoolTimeout) as error:
            if self._reachable:
                log.warning("Postgres does not answer, waiting for it: %s", error)
            self._reachable = False
        else:
            if not self._reachable:
                log.warning("Postgres answers again")
            self._reachable = True


class HeartStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery is untyped
    """Hangs the heart on the consumer, so that it follows the consumer's life."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._heart: Heart | None = None
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        process: WorkerProcess = consumer.app.baton
        if self._heart is None:
            queues = tuple(consumer.app.amqp.queues.consume_from)
            lease = settings().lease
            beat = WorkerBeat(process.engine.worker, queues, process.concurrency, process.pool_name, lease)
            process.engine.beat(beat, [])
            self._heart = process.heart = Heart(process, beat)
            self._heart.start()
        self._heart.tick()
        self._timer = consumer.timer.call_repeatedly(settings().heartbeat / 2, self._heart.tick)

    def stop(self, consumer: Any) -> None:
        """The consumer lost its connection or ends; the heart goes on until `shutdown`, but without ticks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
