"""A worker's app that goes deaf when it gets SIGUSR2: its loop turns, and no message comes any more."""

from __future__ import annotations

import signal
from typing import Any

from celery import bootsteps

from workers.app import app as app


class Deafness(bootsteps.StartStopStep):
    """What has befallen consumers after a reconnect."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        signal.signal(signal.SIGUSR2, lambda *_: consumer.task_consumer.cancel())


app.steps["consumer"].add(Deafness)
