"""Celery's consumer, except for how it meets a broker that is away: it says so once, and is back a second after it."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from celery import signals
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer.consumer import (
    CONNECTION_RETRY,
    INVALID_TASK_ERROR,
    UNKNOWN_FORMAT,
    UNKNOWN_TASK_ERROR,
    Consumer,
)
from celery.worker.state import maybe_shutdown

from orchestrator.outages import BROKER

LONGEST = 1.0
"""Seconds between two tries to reach the broker; Celery's own grow to thirty."""


class PatientConsumer(Consumer):
    """Waits for the broker for as long as it takes."""

    def ensure_connected(self, conn: Any) -> Any:
        def noticed(error: Exception, _: float) -> None:
            BROKER.noticed(error)

        conn.ensure_connection(
            noticed,
            max_retries=None,
            interval_start=0.1,
            interval_step=0.2,
            interval_max=LONGEST,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return conn

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        BROKER.noticed(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        BROKER.noticed(exc)
        heart = self.app.baton.heart
        if heart is not None:
            heart.excused = True  # what follows may wait for a server that says nothing
        with warnings.catch_warnings():
            # Each time, of a setting that will be another one in Celery 6.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Kept like other messages that nobody understands, and not logged with what is in it."""
        signals.task_rejected.send(sender=self, message=message, exc=exc)
        message.ack()

    def on_ready(self) -> None:
        BROKER.over()
        super().on_ready()


def _is_news(record: logging.LogRecord) -> bool:
    """Not what Celery says of every single try, and not what is in messages that are set aside."""
    return not record.getMessage().startswith(_KNOWN)


_QUOTING = tuple(
    text.partition("%")[0].strip() for text in (UNKNOWN_FORMAT, UNKNOWN_TASK_ERROR, INVALID_TASK_ERROR)
)
"""How Celery begins what it logs with the whole message; `WorkerProcess.set_aside` logs queue and reason."""
_KNOWN = (
    CONNECTION_RETRY,
    "Retrying refused callback publish",
    "Giving up refused callback publish",
    *_QUOTING,
    "TaskPool: Apply",  # at the level DEBUG, with all that a task was given
)
for _name in ("celery.worker.consumer.consumer", "celery.app.amqp", "celery.pool"):
    logging.getLogger(_name).addFilter(_is_news)
