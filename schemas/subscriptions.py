"""Subscriptions: which events start runs of which workflow."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import Frozen
from schemas.workflows import Condition, Seconds

EventPattern = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?$", min_length=1, max_length=200)
]
"""A type of events, or all that begin like `ticket.*`."""

MOST_HELD = 1_000
"""Events that one run is started with at most."""


class Take(StrEnum):
    """Which of the events that were held back together a run is started with."""

    FIRST = "first"
    LATEST = "latest"
    ALL = "all"
    """One run for all of them, at most a thousand; `events` lists them."""


class Debounce(Frozen):
    """A run starts when nothing more has come for a while."""

    quiet: Seconds
    """Seconds without another event of the same key."""
    longest: Seconds
    """Seconds after the first one at the latest."""


class Subscription(Frozen):
    """What starts runs of a workflow, as data. Its texts are CEL over `event`, `type`, `key` and `id`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")
    type: EventPattern
    start: str
    """The name of the workflow."""
    when: Condition | None = None
    """Also over `state`: what the runs of the key share."""
    key: Condition | None = None
    """What belongs together: debounce and throttle are for each key, and its runs share the state of that key."""
    input: Condition | None = None
    """The input of the run, also over `state`; without it the payload, or with `take="all"` the list of payloads."""
    debounce: Debounce | None = None
    throttle: Seconds | None = None
    """Seconds between two starts for one key at least; what comes meanwhile is held back until then."""
    take: Take = Take.LATEST
    priority: int = Field(default=0, ge=0, le=9)
    labels: dict[str, str] = Field(default_factory=dict)

    def digest(self, definition: str) -> str:
        """Tells two versions apart: what it says, and which definition it starts."""
        return hashlib.sha256(f"{definition}\n{self.model_dump_json()}".encode()).hexdigest()[:32]


class SubscriptionView(Subscription):
    """A subscription as it stands in the database."""

    version: int
    enabled: bool
    """False while it is paused: events that come then pass it by."""
    deployed_at: datetime
    started: int
    """Events that started a run."""
    held: int
    failed: int
    """Events that were set aside."""
