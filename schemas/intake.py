"""A submission as a message, for programs that have only Celery."""

from __future__ import annotations

from typing import Any

from schemas.base import Frozen

SUBMIT = "baton.submit"
"""The name of the Celery task that submits, and of its queue."""


class SubmitRequest(Frozen):
    """The keyword arguments of the task, all but the first optional."""

    workflow: str
    """The name of a stored definition."""
    input: Any = None
    idempotency_key: str | None = None
    """Without one, the id of the task: a message that comes twice makes one run."""
    tenant: str | None = None
    labels: dict[str, str] | None = None
    priority: int | None = None
    """From 0 (normal) to 9."""
    delay: float | None = None
    """Seconds from now before the run may start."""
