"""The times of a schedule. Cron expressions are read as Debian's cron reads them, daylight saving time included:

a job at a fixed hour that the clock skips runs right after the gap, and one in an hour that comes twice runs once; a
job of every hour or less follows the clock as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice, takewhile
from zoneinfo import ZoneInfo

from schemas.errors import Fault
from schemas.schedules import Missed, Timetable

SHORTEST = 1.0
LONGEST = 366 * 86_400.0
"""Seconds between two times of an interval."""

GRACE = timedelta(minutes=1)
"""How late a time may be fired that must not be made up for."""

MOST = 100
"""Times that are made up for at once; older ones are left out."""


def faults(timetable: Timetable) -> Iterator[Fault]:
    """Everything that is wrong with a timetable."""
    if (timetable.cron is None) == (timetable.every is None):
        yield Fault("", "it needs either a cron expression or an interval")
    if timetable.every is not None and not SHORTEST <= timetable.every <= LONGEST:
        yield Fault("every", f"{timetable.every:g} is not between {SHORTEST:g} and {LONGEST:.0f} seconds")
    zone = _zone(timetable.timezone)
    if zone is None:
        yield Fault(
            "timezone", f"there is no time zone {timetable.timezone!r}, they are named like Europe/Berlin"
        )
    if timetable.cron is not None:
        yield from _cron_faults(timetable.cron)


def upcoming(timetable: Timetable, moment: datetime) -> Iterator[datetime]:
    """The times after a moment, in UTC; those of an interval are counted from it."""
    if timetable.every is None:
        yield from _cron(timetable, moment)
    for number in count(1):
        yield moment.astimezone(UTC) + number * timedelta(seconds=timetable.every or 0)


def due(timetable: Timetable, missed: Missed, first: datetime, now: datetime) -> list[datetime]:
    """The times from `first`, which was to be fired next, through `now` that are to be fired now, oldest first."""
    passed = list(islice(_backwards(timetable, first, now), MOST if missed is Missed.ALL else 1))
    if missed is Missed.SKIP and now - passed[0] > GRACE:
        return []
    return passed[::-1]


def next_after(timetable: Timetable, first: datetime, now: datetime) -> datetime:
    """The first time after `now`, when all from `first` through `now` have been dealt with; in UTC."""
    last = now if timetable.every is None else next(_backwards(timetable, first, now))
    return next(upcoming(timetable, last))


def _backwards(timetable: Timetable, first: datetime, now: datetime) -> Iterator[datetime]:
    """The times from `now` back to `first`, which is one of them, in UTC."""
    first, now = first.astimezone(UTC), now.astimezone(UTC)
    if timetable.every is None:
        # It counts what lies before a moment, and `now` itself may be a time.
        passed = _cron(timetable, now + timedelta(microseconds=1), reverse=True)
        yield from takewhile(lambda at: at > first, passed)
        yield first
        return
    step = timedelta(seconds=timetable.every)
    for number in range((now - first) // step, -1, -1):
        yield first + number * step


def _cron(timetable: Timetable, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """The times after a moment, or before it, in UTC: arithmetic in another zone would be that of its clock."""
    from cronsim import CronSim

    assert timetable.cron is not None  # noqa: S101  checked at the door, and by the table
    there = moment.astimezone(ZoneInfo(timetable.timezone))
    return (at.astimezone(UTC) for at in CronSim(timetable.cron, there, reverse))


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # not found is a KeyError, a folder of the database an OSError
        return None


def _cron_faults(text: str) -> Iterator[Fault]:
    from cronsim import CronSim, CronSimError

    if len(text.split()) != 5:
        yield Fault("cron", f"{text!r} has not the five fields minute, hour, day, month and weekday")
        return
    try:
        next(CronSim(text, datetime.now(UTC)))
    except CronSimError as error:
        yield Fault("cron", f"{text!r} cannot be read: {str(error).lower()}")
    except StopIteration:
        yield Fault("cron", f"{text!r} never comes")
