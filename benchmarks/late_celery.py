"""Plain Celery as one sets it up to survive its workers: acknowledged late, rejected when the worker is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, cast

from celery import Celery

from benchmarks.witness import of_environment


def make_app(redis_url: str, visibility: float) -> Celery:
    """`visibility` is the timeout in seconds after which Redis hands an unacknowledged message to another worker.

    It has to be longer than the longest task, which would be started a second time otherwise.
    """
    app = Celery("late", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": visibility,
            # Kombu looks for messages to restore every 1 s instead of every 100 s.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
    )
    return app


app = make_app(
    os.environ.get("BENCHMARK_REDIS", "redis://"), float(os.environ.get("BENCHMARK_VISIBILITY", "10"))
)
_task = cast(Callable[[Callable[..., Any]], Any], app.task)


@_task
def hold(token: str) -> None:
    """Start, and end when it is told to."""
    witness = of_environment()
    witness.started(token)
    while not witness.has_released(token):
        time.sleep(0.02)
