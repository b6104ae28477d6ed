"""When a schedule fires: cron in its time zone, intervals without drift, what is made up for, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from orchestrator.clock.timetable import GRACE, MOST, due, faults, next_after, upcoming
from schemas.schedules import Missed, Timetable

BERLIN = ZoneInfo("Europe/Berlin")
NINE = Timetable(cron="0 9 * * *", timezone="Europe/Berlin")


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC)


def shown(timetable: Timetable, after: datetime, count: int) -> list[str]:
    """The next times on the clocks of the schedule's own time zone."""
    zone = ZoneInfo(timetable.timezone)
    found = islice(upcoming(timetable, after), count)
    return [moment.astimezone(zone).strftime("%d %H:%M %Z") for moment in found]


def test_a_cron_expression_is_read_in_its_time_zone() -> None:
    assert list(islice(upcoming(NINE, at("2026-11-21 12:00")), 2)) == [
        at("2026-11-22 08:00"),
        at("2026-11-23 08:00"),
    ]
    assert list(islice(upcoming(NINE, at("2026-07-01 07:00")), 1)) == [at("2026-07-02 07:00")]


# --- daylight saving time ---------------------------------------------------------------------------------


def test_a_job_in_the_hour_that_the_clock_skips_runs_right_after_the_gap_and_once() -> None:
    daily = Timetable(cron="30 2 * * *", timezone="Europe/Berlin")

    assert shown(daily, at("2026-03-28 12:00", BERLIN), 2) == ["29 03:00 CEST", "30 02:30 CEST"]


def test_a_job_in_the_hour_that_comes_twice_runs_in_the_first_one_only() -> None:
    daily = Timetable(cron="30 2 * * *", timezone="Europe/Berlin")

    assert shown(daily, at("2026-10-24 12:00", BERLIN), 2) == ["25 02:30 CEST", "26 02:30 CET"]


def test_a_job_of_every_half_hour_follows_the_clock_through_both() -> None:
    often = Timetable(cron="*/30 * * * *", timezone="Europe/Berlin")

    assert shown(often, at("2026-03-29 01:15", BERLIN), 3) == [
        "29 01:30 CET",
        "29 03:00 CEST",
        "29 03:30 CEST",
    ]
    assert shown(often, at("2026-10-25 02:15", BERLIN), 4) == [
        "25 02:30 CEST",
        "25 02:00 CET",
        "25 02:30 CET",
        "25 03:00 CET",
    ]


def test_an_interval_is_elapsed_time_whatever_the_clock_does() -> None:
    hourly = Timetable(every=3_600, timezone="Europe/Berlin")
    first = at("2026-03-29 01:00", BERLIN)

    assert next_after(hourly, first, first + timedelta(seconds=1)) == at("2026-03-29 01:00")
    passed = due(hourly, Missed.ALL, first, at("2026-03-29 04:30", BERLIN))
    assert [later - earlier for earlier, later in pairwise(passed)] == [timedelta(hours=1)] * 2


# --- what was missed --------------------------------------------------------------------------------------

FIRST = at("2026-11-20 08:00")


@pytest.mark.parametrize(
    ("late", "missed", "expected"),
    [
        # In time, or as good as that: all policies do the same
        (timedelta(0), "skip", ["20 08"]),
        (timedelta(0), "one", ["20 08"]),
        (timedelta(0), "all", ["20 08"]),
        (GRACE, "skip", ["20 08"]),
        # Hours late
        (timedelta(hours=5), "skip", []),
        (timedelta(hours=5), "one", ["20 08"]),
        (timedelta(hours=5), "all", ["20 08"]),
        # Two more passed
        (timedelta(days=2, hours=5), "skip", []),
        (timedelta(days=2, seconds=30), "skip", ["22 08"]),
        (timedelta(days=2, hours=5), "one", ["22 08"]),
        (timedelta(days=2, hours=5), "all", ["20 08", "21 08", "22 08"]),
    ],
)
def test_what_becomes_of_times_that_passed(late: timedelta, missed: str, expected: list[str]) -> None:
    now = FIRST + late

    found = due(NINE, Missed(missed), FIRST, now)

    assert [moment.strftime("%d %H") for moment in found] == expected
    assert next_after(NINE, FIRST, now) > now


@pytest.mark.parametrize(
    "times", [Timetable(cron="* * * * *"), Timetable(every=60)], ids=["cron", "interval"]
)
def test_a_year_of_missed_minutes_is_made_up_for_by_the_latest_hundred(times: Timetable) -> None:
    now = FIRST + timedelta(days=365, seconds=30)

    found = due(times, Missed.ALL, FIRST, now)

    assert len(found) == MOST
    assert found[-1] == FIRST + timedelta(days=365)
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=1)}
    assert next_after(times, FIRST, now) == FIRST + timedelta(days=365, minutes=1)


def test_lateness_does_not_add_up() -> None:
    often = Timetable(every=10)
    first = at("2026-11-20 08:00")

    moments = [first]
    for _ in range(50):
        moments.append(next_after(often, moments[-1], moments[-1] + timedelta(seconds=3.7)))

    assert moments[-1] == first + timedelta(seconds=500)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (Timetable(), "it needs either a cron expression or an interval"),
        (Timetable(cron="* * * * *", every=5), "it needs either a cron expression or an interval"),
        (Timetable(every=0.5), "every: 0.5 is not between 1 and 31622400 seconds"),
        (Timetable(every=float("nan")), "every: nan is not between"),
        (Timetable(cron="61 * * * *"), "cron: '61 * * * *' cannot be read: bad minute"),
        (Timetable(cron="0 9 * *"), "cron: '0 9 * *' has not the five fields"),
        (Timetable(cron="0 0 9 * * *"), "cron: '0 0 9 * * *' has not the five fields"),
        (Timetable(cron="0 0 30 2 *"), "cron: '0 0 30 2 *' cannot be read: bad day-of-month"),
        (Timetable(cron="* * */20 * 1L"), "cron: '* * */20 * 1L' never comes"),
        (Timetable(cron="nonsense"), "cron: 'nonsense' has not"),
        (Timetable(every=5, timezone="Berlin"), "timezone: there is no time zone 'Berlin'"),
        (Timetable(every=5, timezone="Europe"), "timezone: there is no time zone 'Europe'"),
        (Timetable(every=5, timezone="../../etc/passwd"), "timezone: there is no time zone"),
        (Timetable(every=5, timezone=""), "timezone: there is no time zone ''"),
    ],
)
def test_a_timetable_that_cannot_be_kept_is_refused(times: Timetable, told: str) -> None:
    found = [str(fault) for fault in faults(times)]

    assert len(found) == 1
    assert found[0].startswith(told)


def test_all_faults_are_named_at_once() -> None:
    assert len(list(faults(Timetable(cron="a b c d e", every=0, timezone="Nowhere/City")))) == 4


@pytest.mark.parametrize(
    "cron", ["0 9 * * MON-FRI", "*/5 * * * *", "0 0 L * *", "15 10 29 2 *", "0 9 * * MON#1"]
)
def test_what_debian_and_its_friends_write_is_read(cron: str) -> None:
    assert list(faults(Timetable(cron=cron, timezone="Asia/Kathmandu"))) == []
