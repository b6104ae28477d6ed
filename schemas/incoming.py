"""Events from outside: what they are, and what became of them at each subscription.

Not to be confused with `schemas.events`, the story of a run.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from schemas.base import Frozen

EventType = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=200)]
"""What happened, e.g. `ticket.created`."""


class Emitted(Frozen):
    """An event that is stored; `created` is False when one with this id was there already."""

    number: int
    id: str
    created: bool


class DeliveryState(StrEnum):
    """What became of one event at one subscription. One whose condition does not hold leaves no trace."""

    NEW = "new"
    """Nobody has looked at it yet."""
    HELD = "held"
    """It waits for its key's debounce or throttle to end."""
    STARTED = "started"
    """A run was started with it."""
    DROPPED = "dropped"
    """Another event of its key was taken instead."""
    FAILED = "failed"
    """It was set aside, for a reason; `baton events retry` tries it again."""


class Delivery(Frozen):
    """One event at one subscription."""

    subscription: str
    version: int
    """Of the subscription."""
    state: DeliveryState
    key: str | None
    """What the subscription's `key` gave."""
    run_id: UUID | None
    reason: str | None
    at: datetime


class IncomingEvent(Frozen):
    """One event from outside."""

    number: int
    """In the order in which they were stored."""
    id: str
    """What its sender calls it: an event is stored once for each id of a tenant."""
    tenant: str
    type: EventType
    key: str | None
    payload: Any
    at: datetime
    deliveries: tuple[Delivery, ...] = ()
