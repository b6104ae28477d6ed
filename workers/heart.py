"""Says once a second that this worker lives, and stops what it should no longer run.

The beat is written by a thread, so that a slow database does not stop the consumer; but while the consumer is
connected, the thread beats only if the consumer's own loop ticks. A worker that is connected and consumes nothing
looks dead, as it should.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from typing import Any

import psycopg
from celery import bootsteps
from celery.worker.state import reserved_requests

from orchestrator.clock.timers import Timers
from orchestrator.engine.patience import passes
from orchestrator.engine.values import Holding, Pointer, Ready, WorkerBeat, WorkerId
from orchestrator.messaging.canvas import step_of
from orchestrator.outages import BROKER, POSTGRES
from orchestrator.people.notices import PAUSE, Notifier
from orchestrator.recovery import Recovery
from schemas.settings import settings
from workers.attempts import Attempt
from workers.children import Children, accepted
from workers.hearing import Hearing
from workers.process import WorkerProcess

log = logging.getLogger(__name__)

STILL = 2.5
"""Seconds without a tick of the consumer's loop after which the heart stops."""


TURN_OF_A_THREAD = 0.001
"""Seconds after which a thread that computes lets others run: 5 ms, Python's default, for each of a busy worker's
threads and each answer of Postgres would add up to what timers may be late."""


class Witness:
    """Whether this process may say of others that they did not beat: not if it could not either, a moment ago.

    When Postgres or the network was away, or the whole machine stood still, everybody's lease may have run out. Whoever
    is back first leaves the others the time of a lease.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._last = self._since = time.monotonic()
        self._was_away = False

    def beat(self) -> None:
        """A beat of ours has reached Postgres."""
        now = time.monotonic()
        if now - self._last > self._lease / 2:
            self._since, self._was_away = now, True
        self._last = now

    @property
    def is_reliable(self) -> bool:
        now = time.monotonic()
        away = now - self._last > self._lease / 2
        return not away and not (self._was_away and now - self._since < self._lease)


class Heart:
    """The threads that beat, fire timers, and sweep for what others left undone."""

    def __init__(
        self, process: WorkerProcess, beat: WorkerBeat, hearing: Hearing, children: Children | None = None
    ) -> None:
        self._process = process
        self._hearing = hearing
        self._children = children
        self._beat = beat
        self._stopped = threading.Event()
        self._ticked = time.monotonic()
        self._suspects: set[Holding] = set()
        self._found: deque[Ready] = deque()
        """What the beat took back; it must not wait for the broker, so the sweeper sends it."""
        self.witness = Witness(beat.lease)
        self.excused = False
        """Set while the consumer is known to stand still: it drains, or waits for the broker."""
        self._threads = [
            threading.Thread(target=self._beat_on, name="heart", daemon=True),
            threading.Thread(target=self._sweep_on, name="sweeper", daemon=True),
            threading.Thread(target=self._watch_on, name="timers", daemon=True),
        ]
        if told := process.targets:
            self._notifier = Notifier(process.pool, told)
            self._threads.append(threading.Thread(target=self._notify_on, name="notices", daemon=True))

    def start(self) -> None:
        sys.setswitchinterval(TURN_OF_A_THREAD)
        for thread in self._threads:
            thread.start()

    def tick(self) -> None:
        """The consumer's loop is turning."""
        self._ticked = time.monotonic()

    def stop(self) -> None:
        """Stop beating and say so, so that nobody waits for the lease to run out; may be called twice."""
        if not self._stopped.is_set():
            self._stopped.set()
            for thread in self._threads:
                thread.join(timeout=5)

    def _beat_on(self) -> None:
        while not self._stopped.wait(settings().heartbeat / 2):
            self._guarded(self._pulse)
        self._guarded(self._process.engine.stop_worker)

    def _sweep_on(self) -> None:
        """A thread of its own, since a sweep talks to the broker, which may be slow when it is away."""
        recovery = Recovery(
            self._process.engine,
            self._process.dispatcher,
            grace=self._beat.lease,
            may_bury=lambda: self.witness.is_reliable,
        )
        while True:
            self._guarded(self._send_found)
            self._guarded(recovery.sweep)
            self._hearing.listen(recovery.unheard)
            if self._stopped.wait(settings().heartbeat / 2):
                return

    def _watch_on(self) -> None:
        """A thread of its own, since it keeps to the tenth of a second."""
        timers = Timers(self._process.engine, self._process.dispatcher)
        while not self._stopped.wait(timers.pause):
            self._guarded(timers.look)

    def _notify_on(self) -> None:
        """A thread of its own, since those who are told may be slow to answer."""
        while not self._stopped.wait(PAUSE):
            self._guarded(self._notifier.look)

    def _send_found(self) -> None:
        found = [self._found.popleft() for _ in range(len(self._found))]
        self._process.dispatcher.send(found)

    def _pulse(self) -> None:
        turning = self.excused or BROKER.lasts or time.monotonic() - self._ticked < STILL
        self._hearing.turned(turning=turning, every=settings().heartbeat / 2)
        if not turning:
            return
        process = self._process
        running, active = process.attempts.all(), {step_of(request.id) for request in accepted()}
        # One that leaves serves no queue any more; what it runs is still its own.
        beat = self._beat._replace(queues=(), throttled=()) if process.leaving else self._beat
        holdings = process.pulse.beat(beat, len(reserved_requests))
        self.witness.beat()
        lost = set(running) - {Attempt(one.run_id, one.path, one.attempt) for one in holdings}
        for one in lost:
            process.attempts.stop(one)
        self._found += process.pulse.take_forgotten(lost)
        if process.closed:
            return  # all of it is being given to others
        if self._children is not None:
            self._children.stop_unwanted()
        self._release_orphans({one for one in holdings if Pointer(one.run_id, one.path) not in active})

    def _release_orphans(self, found: set[Holding]) -> None:
        """Give back steps that stand in our name although no request of ours runs them.

        A claim whose answer was lost leaves one. A step is an orphan when two pulses in a row find it so: between a
        claim's commit and this look, or an outcome's and that one, a single pulse may be wrong.
        """
        orphans = found & self._suspects
        for orphan in orphans:
            log.warning("step %s of run %s was ours, but nobody runs it", orphan.path, orphan.run_id)
        if orphans:
            self._found += self._process.pulse.free(orphans, lost=False)
        self._suspects = found - self._suspects

    def _guarded(self, work: Any) -> None:
        """Wait out a server that is away. A heart that stops would have a healthy worker declared dead."""
        try:
            work()
        except Exception as error:
            if not isinstance(error, psycopg.Error) or not passes(error):
                log.exception("a beat failed; the next one follows")
        else:
            POSTGRES.over()


class HeartStep(bootsteps.StartStopStep):
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
            worker = WorkerId(process.id, process.name)
            tasks = consumer.app.tasks
            throttled = tuple(q for q in queues if q in tasks and tasks[q].rate_limit)
            beat = WorkerBeat(worker, queues, process.concurrency, process.pool_name, lease, throttled)
            process.pulse.beat(beat, 0)
            children = None if process.in_threads else Children(process, consumer)
            hearing = Hearing(process, consumer, queues)
            self._heart = process.heart = Heart(process, beat, hearing, children)
            self._heart.start()
        self._heart.tick()
        self._heart.excused = False
        self._timer = consumer.timer.call_repeatedly(settings().heartbeat / 2, self._heart.tick)

    def stop(self, consumer: Any) -> None:
        """The consumer lost its connection or drains; steps may still run, so the heart beats on without ticks."""
        if self._heart is not None:
            self._heart.excused = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
