"""Sends committed steps to their queues."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from orchestrator.canvas import fragments
from orchestrator.engine.values import Ready

log = logging.getLogger(__name__)

BATCH = 500
"""Messages that travel to the broker together."""


class Dispatcher:
    """Publishes fragments, in batches where the transport can."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(self, ready: Sequence[Ready]) -> bool:
        """Publish these steps, after their commit. False when the broker could not be reached.

        The steps are then ready in Postgres all the same, and recovery sends them when the broker is back.
        """
        if not ready:
            return True
        try:
            with self._app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=BATCH):
                for fragment in fragments(self._app, ready):
                    fragment.apply_async(producer=producer)
        except (OSError, KombuError, OperationalError) as error:
            log.warning("could not send %d steps, recovery will: %s", len(ready), error)
            return False
        return True
