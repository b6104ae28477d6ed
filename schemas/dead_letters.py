"""What was set aside: steps that cost one worker after the other, and messages that nobody could run."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from schemas.base import Frozen
from schemas.outcomes import ErrorInfo


class Settled(StrEnum):
    """What somebody decided about a dead letter."""

    RETRIED = "retried"
    DROPPED = "dropped"


class DeadLetter(Frozen):
    """One step or message that was set aside."""

    id: int
    queue: str
    reason: str
    at: datetime
    run_id: UUID | None
    """The run of the step; None for a message."""
    path: str | None
    workflow: str | None
    settled: Settled | None
    """None while it waits for somebody to decide."""
    settled_at: datetime | None


class AttemptView(Frozen):
    """One try of a step that has ended."""

    attempt: int
    state: str
    worker: str | None
    """The name of the worker that had it; None if that is no longer known."""
    pool: str | None
    started_at: datetime
    finished_at: datetime
    error: ErrorInfo | None


class DeadLetterView(DeadLetter):
    """One dead letter with its history."""

    message: Any
    """What came from the queue, or facts about the step, as JSON data."""
    attempts: tuple[AttemptView, ...]
    """The tries of the step; none for a message."""
