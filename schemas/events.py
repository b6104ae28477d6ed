"""Facts about a run, appended and never changed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import Field

from schemas.base import Frozen


class EventKind(StrEnum):
    """What happened. The part before the dot says to what."""

    RUN_SUBMITTED = "run.submitted"
    RUN_STARTED = "run.started"
    RUN_COMPLETED = "run.completed"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    RUN_PAUSED = "run.paused"
    RUN_RESUMED = "run.resumed"
    RUN_FORKED = "run.forked"
    RUN_BUDGET_WARNING = "run.budget_warning"
    """Of a budget that it consumes, its own or another, 80 % are used up."""
    RUN_BUDGET_EXHAUSTED = "run.budget_exhausted"
    """Of a budget that it consumes, its own or another, nothing is left: steps that consume are not begun."""
    STEP_COPIED = "step.copied"
    """Steps that a forked run began with."""
    STEP_OPENED = "step.opened"
    STEP_STARTED = "step.started"
    STEP_RETRYING = "step.retrying"
    STEP_LIMITED = "step.limited"
    """It waits for a limit of its agent, or before a call for one of a tool or a model."""
    STEP_LOST = "step.lost"
    STEP_RELEASED = "step.released"
    STEP_DEAD = "step.dead"
    STEP_WAITING = "step.waiting"
    STEP_ESCALATED = "step.escalated"
    STEP_ANSWERED = "step.answered"
    """What an agent had asked is answered: it goes on."""
    STEP_DONE = "step.done"
    STEP_FAILED = "step.failed"
    STEP_SKIPPED = "step.skipped"
    STEP_CHILD = "step.child"
    """It has started a run."""
    STEP_DECIDED = "step.decided"
    STEP_WARNING = "step.warning"
    STEP_REMEMBERED = "step.remembered"
    STEP_FORGOTTEN = "step.forgotten"
    """It has removed memories: their ids are told, as those of what was read before, and not what they said."""
    STEP_RECALLED = "step.recalled"
    """It was given memories, or past runs: what it did afterwards may come of them."""
    STEP_MASKED = "step.masked"
    """Secrets or personal data were masked: which kinds, in which fields."""
    STEP_INJECTION = "step.injection"
    """What a tool gave, or the step was given, looks as if it wanted to give a model orders."""
    PROGRESS = "step.progress"
    STEP_CUT = "step.cut"
    """What its agent was not told, to stay within its context."""
    STEP_DELTA = "step.delta"
    """What its agent says just now. It stands whatever becomes of the attempt, and the next one may say it again."""


class Event(Frozen):
    """One fact; `number` counts from 1 within its run, without gaps, in an order that respects cause."""

    run_id: UUID
    number: int
    kind: EventKind
    path: str
    """The step it is about; empty for the run itself."""
    at: datetime
    data: dict[str, Any] = Field(default_factory=dict)
