"""What a step waits for outside of Baton, and how such a wait ends."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Frozen


class WaitKind(StrEnum):
    APPROVAL = "approval"
    """A stage `approve(...)`."""
    QUESTION = "question"
    """An agent has asked a person."""
    EVENT = "event"
    """Something that another system will tell."""
    DELAY = "delay"
    """Nothing but its time."""


class Expiry(Frozen):
    """What becomes of a wait that nobody ended in time."""

    decision: str
    """The word for it: `rejected`, say."""
    state: Literal["done", "failed", "ready", "open"]
    """Of the step: done or failed; ready to be executed again; open, to be entered again."""
    reason: str
    output: Any = None
    """What a step that is done gives; without `gives_output`, what it was given."""
    gives_output: bool = False


class Asking(Frozen):
    """A wait that is to begin."""

    kind: WaitKind
    key: str
    """What it is for: the name of an approval, a question, the correlation key of an event."""
    request: dict[str, Any] = Field(default_factory=dict)
    """What whoever ends it has to know."""
    told: dict[str, Any] = Field(default_factory=dict)
    """What its event `step.waiting` says besides."""
    audience: tuple[str, ...] = ()
    """Who is asked; empty for everybody."""
    escalate_to: tuple[str, ...] = ()
    """Who is asked as well, `escalate_after` seconds later."""
    escalate_after: float | None = None
    expires: float | None = None
    """Seconds after which it ends by itself, as `expiry` says."""
    expiry: Expiry | None = None


class WaitView(Frozen):
    """One wait as people see it."""

    id: int
    run_id: UUID
    path: str
    workflow: str
    kind: WaitKind
    key: str
    request: dict[str, Any]
    audience: tuple[str, ...]
    asked_at: datetime
    escalated_at: datetime | None
    expires_at: datetime | None
    """None also while the run is paused, when its clock stands still."""
    settled_at: datetime | None
    settled_by: str | None
    decision: str | None
    reason: str | None
    answer: Any
    """The edited payload, or the answer to a question."""


class Approval(WaitView):
    """One that people decide, with what they are shown."""

    payload: Any
    """What is to be approved; None for a question."""
    takes: dict[str, Any]
    """The JSON Schema of an edited payload, or of an answer."""
