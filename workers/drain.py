"""Ends a worker in bounded time, and leaves nothing that others would have to wait for.

    asked to end      no new message; what was fetched and not begun goes back to its queue at once
    drain time over,  async attempts are cancelled, prefork children killed; every step that still stands in this
    or asked again    worker's name is given back in Postgres and sent again by this worker itself
    GRACE later       the process is gone, whatever hangs: a thread, Redis or Postgres

A sync agent in a thread cannot be stopped. Its step is given back all the same: the fence refuses its late outcome.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

import psycopg
from celery import bootsteps
from celery.worker import state

from orchestrator.messaging.redis_transport import Channel
from schemas.settings import settings
from workers.children import accepted
from workers.process import WorkerProcess

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds between the end of the drain and that of the process, whatever hangs."""

SETTLE = 1.0
"""Seconds that cancelled attempts have to end before their steps are given to others."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Drain:
    """Waits on a thread of its own for the wish to end, and sees to it."""

    def __init__(self, process: WorkerProcess, kill_children: Callable[[], object]) -> None:
        self._process = process
        self._kill_children = kill_children
        # The one queue that a signal handler may use: it may interrupt anything, this queue's own methods too.
        self._wishes: SimpleQueue[int] = SimpleQueue()
        self._owns_process = False
        self._code = os.EX_OK
        self._late = threading.Event()
        self._handed_back = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="drain", daemon=True)

    def start(self) -> None:
        """Listen to signals; a worker inside another program gets none, and must not end that."""
        self._thread.start()
        if threading.current_thread() is threading.main_thread():
            self._owns_process = True
            warm = signal.getsignal(signal.SIGTERM)
            for number in _ENDING:
                signal.signal(number, self._handler(warm))

    def ask(self, number: int = signal.SIGTERM) -> None:
        """Let the worker end; asked again, or with SIGQUIT, at once."""
        self._process.leaving = True
        self._wishes.put(number)

    def insist(self) -> None:
        """End the worker at once as one that failed, so that its supervisor starts another."""
        self._code = os.EX_SOFTWARE
        state.should_stop = os.EX_SOFTWARE
        self.ask(signal.SIGQUIT)

    def give_back(self) -> None:
        """Wait until what could not be finished has been given to others, if there is such."""
        if self._late.is_set():
            self._handed_back.wait(GRACE)

    def conclude(self, exit_code: int) -> None:
        """The last thing that the worker's main thread does; ends the process if a thread of an agent would not."""
        if self._process.runner.stuck:
            self._exit(exit_code)

    def _handler(self, warm: Any) -> Callable[[int, FrameType | None], None]:
        """Celery's own warm shutdown, whatever the signal, and the same again when the signal comes again.

        Celery's handlers of SIGINT and SIGQUIT would stop the pool from within the signal.
        """

        def on_signal(number: int, frame: FrameType | None) -> None:
            first = not self._process.leaving
            self.ask(number)
            if first and callable(warm):
                warm(number, frame)

        return on_signal

    def _wait(self) -> None:
        if self._wishes.get() != signal.SIGQUIT:
            limit = settings().drain_seconds
            log.warning(
                "finishing what runs, for at most %g s; asked again, it goes to others at once", limit
            )
            with suppress(Empty):
                self._wishes.get(timeout=limit)
        self._late.set()
        # On another thread, since a server that is away may hold it up for any time.
        threading.Thread(target=self._give_up, name="give-up", daemon=True).start()
        time.sleep(GRACE)
        log.warning("something does not end: the process exits without it")
        self._exit(self._code if self._handed_back.is_set() else os.EX_TEMPFAIL)

    def _give_up(self) -> None:
        """Stop what can be stopped, then give all of it to others."""
        process = self._process
        process.closed = True
        self._kill_children()
        for attempt in process.attempts.all():
            process.attempts.stop(attempt)
        until = time.monotonic() + SETTLE
        while process.attempts.all() and time.monotonic() < until:
            time.sleep(0.01)
        try:
            ready = process.engine.hand_back()
            if ready:
                log.warning("gave back %d running steps: others go on with them", len(ready))
            process.dispatcher.send(ready)
            process.engine.stop_worker()
        except psycopg.Error as error:
            log.warning("could not give back what runs, recovery will see to it: %s", error)
            return
        self._handed_back.set()

    def _exit(self, code: int) -> None:
        """End now, whatever threads there are; what was logged goes out first, unless nobody reads it."""
        if not self._owns_process:
            return
        flushing = threading.Thread(target=logging.shutdown, daemon=True)
        flushing.start()
        flushing.join(0.5)
        os._exit(code)


def _kill_children(pool: Any) -> None:
    for child in tuple(getattr(getattr(pool, "_pool", None), "_pool", ())):
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


class DrainStep(bootsteps.StartStopStep):
    """Hangs the drain on the consumer: it begins where messages stop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        process: WorkerProcess = consumer.app.baton
        if process.drain is None:
            process.drain = Drain(process, lambda: _kill_children(consumer.pool))
            process.drain.start()

    def stop(self, consumer: Any) -> None:
        """The worker ends, or has only lost its connection."""
        process: WorkerProcess = consumer.app.baton
        if consumer.blueprint.state != bootsteps.CLOSE:
            return
        if process.drain is not None and not process.leaving:
            process.drain.ask()
        channel = getattr(consumer.task_consumer, "channel", None)
        if not isinstance(channel, Channel):
            return  # other transports give back what was fetched when the connection closes
        try:
            consumer.task_consumer.cancel()
            running = {request.message.delivery_tag for request in accepted()}
            process.returned = channel.qos.give_back(running)
            channel.stop_waiting()
        except channel.connection_errors as error:
            log.warning("what was fetched could not be given back, recovery sends it: %s", error)
