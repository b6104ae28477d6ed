"""What Celery tells Flower and other monitors: no credentials in what tasks were given, gave, or failed with."""

from __future__ import annotations

from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher

from orchestrator.masking.masker import discreet

QUOTING = frozenset({"args", "kwargs", "result", "exception", "traceback"})
"""Fields that repeat what a task was given, gave, or failed with."""


class DiscreetEvents(Events):
    """Makes dispatchers that mask."""

    dispatcher_cls = "workers.guards.celery_events:DiscreetDispatcher"


class DiscreetDispatcher(EventDispatcher):
    """Masks the texts of each event, however it is sent."""

    def send(self, type: str, *args: Any, **fields: Any) -> Any:
        return super().send(type, *args, **_masked(fields))

    def publish(self, type: str, fields: dict[str, Any], *args: Any, **options: Any) -> Any:
        return super().publish(type, _masked(fields), *args, **options)


def _masked(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: discreet(one) if name in QUOTING and isinstance(one, str) else one
        for name, one in fields.items()
    }
