"""The Celery app that producers and workers share."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import Celery

from orchestrator.places import Places

BACKEND = "orchestrator.results.steps:StepBackend"
TRANSPORT = "orchestrator.messaging.redis_transport:Transport"
PRIORITY_STEPS = [0, 3, 6, 9]
MOST_URGENT = 9
VISIBILITY_TIMEOUT = 60.0
"""Seconds before Redis redelivers an unacknowledged message. It can be short: every claim is fenced, so a
redelivery of a step that still runs is a no-op."""


def make_app(places: Places, name: str = "baton") -> Celery:
    """A Celery app on these servers; it knows no agents, only their names."""
    app = Celery(name, set_as_current=False)
    app.conf.update(configuration(places))
    return app


@cache
def shared_app(places: Places) -> Celery:
    """One app per process and pair of servers: its connection pools are shared by all clients."""
    return make_app(places)


def configuration(places: Places) -> dict[str, Any]:
    """Baton's Celery settings; those that differ from Celery's defaults say why."""
    return {
        "broker_url": places.broker_url,
        **({"broker_transport": TRANSPORT} if places.broker_url.startswith("redis://") else {}),
        "result_backend": f"{BACKEND}+{places.database_url}",
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "visibility_timeout": VISIBILITY_TIMEOUT,
            # Kombu looks for messages to restore every interval * throttle = 10 s instead of 100 s.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 2,
            "priority_steps": PRIORITY_STEPS,
            # Seconds. A Redis that is stopped or cut off says nothing; the consumer, which must not stand still for
            # long, and whoever publishes notice it by these. Every BRPOP ends after a second.
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 5,
        },
        # Every thread of a pool publishes.
        "broker_pool_limit": 50,
        # Recovery re-sends what a publisher could not: fail fast instead of blocking a worker.
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2},
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # A message is a pointer and a step's row is its result: nothing else is stored.
        "task_ignore_result": True,
        # The message stays in the broker until the outcome is committed.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Steps carry their own state; `celery inspect` and Flower need none of Celery's in the results.
        "task_track_started": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
    }


def wire_priority(priority: int) -> int:
    """Baton counts 0 (normal) to 9 (most urgent); on Redis the smallest number goes first."""
    return MOST_URGENT - priority
