"""Schedules: which workflow is started again and again, and when."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from schemas.base import Frozen


class Missed(StrEnum):
    """What becomes of the times that passed while no worker was there to fire them."""

    SKIP = "skip"
    """A time more than a minute ago is left out."""
    ONE = "one"
    """One run is started for all of them together."""
    ALL = "all"
    """One run is started for each of them, at most a hundred."""


class Overlap(StrEnum):
    """What becomes of a time that comes while the run that the schedule started last has not ended."""

    ALLOW = "allow"
    """Another run is started beside it."""
    SKIP = "skip"
    """The time is left out. A run that is paused has not ended."""


class Timetable(Frozen):
    """When: a cron expression in a time zone, or every so many seconds."""

    cron: str | None = None
    """Five fields, e.g. `0 9 * * MON-FRI`."""
    every: float | None = None
    """Seconds from one time to the next; lateness does not add up."""
    timezone: str = "UTC"
    """The IANA name of the time zone that `cron` is read in."""


class Schedule(Timetable):
    """One schedule, with all that its runs are started with."""

    name: str
    workflow: str
    """Its runs are of the definition that this name had when the schedule was set."""
    input: Any
    missed: Missed
    overlap: Overlap
    tenant: str
    priority: int
    labels: dict[str, str]
    enabled: bool
    """False while it is paused."""
    next_at: datetime
    last_fired_at: datetime | None
    last_run_id: UUID | None
    left_out_at: datetime | None
    """When a time was left out last because of `overlap`."""
    created_at: datetime
