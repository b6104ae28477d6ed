"""Prefork children that run what nobody wants any more: they are interrupted, and killed if they do not listen."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import defaultdict
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from celery.worker.state import active_requests

from orchestrator.engine.values import Pointer
from orchestrator.messaging.canvas import step_of
from workers.process import WorkerProcess

log = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds in which an interrupted agent may tidy up."""


class Children:
    """Stops the agents of cancelled and expired steps in the children of this prefork worker."""

    def __init__(self, process: WorkerProcess, consumer: Any) -> None:
        self._process = process
        self._consumer = consumer
        self._interrupted: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    def stop_unwanted(self) -> None:
        """Look at what the children run; call it again and again, from any thread."""
        running: defaultdict[Pointer, list[Any]] = defaultdict(list)
        for request in accepted():
            pointer = step_of(request.id)
            if pointer is not None:
                running[pointer].append(request)
        for pointer in self._process.pulse.unwanted(running):
            for request in running[pointer]:
                self._consumer.call_soon(self._stop_safely, request)

    def _stop_safely(self, request: Any) -> None:
        """Whatever this raised would end the consumer's loop."""
        try:
            self._stop(request)
        except Exception:
            log.exception("could not stop %s", request.id)

    def _stop(self, request: Any) -> None:
        """On the consumer's own loop, which hands out work: between look and signal, no child gets another step."""
        if request not in active_requests:
            return
        now = time.monotonic()
        since = self._interrupted.setdefault(request, now)
        if since == now:
            log.info(
                "interrupting %s in process %s: it is not wanted any more", request.id, request.worker_pid
            )
            with suppress(ProcessLookupError):
                os.kill(request.worker_pid, signal.SIGUSR1)
        elif now - since >= GRACE:
            log.warning("killing process %s: %s did not end when told to", request.worker_pid, request.id)
            request.terminate(self._consumer.pool, signal="KILL")


def accepted() -> list[Any]:
    """The requests that run just now. Other threads change the weak set, and iterating it may fail: try again."""
    while True:
        try:
            return list(active_requests)
        except RuntimeError:
            continue
