"""A server that is away: said once by a process, however many of its threads notice, and tried by one at a time."""

from __future__ import annotations

import pytest

from orchestrator.outages import AGAIN, FLICKER, Outage


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock: Clock) -> Outage:
    return Outage("it is away", "it is back", clock)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_it_is_said_once_and_once_when_it_is_over(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.over()
    for _ in range(100):
        outage.noticed("connection refused\nand more")
        clock.now += 1
    assert outage.lasts
    for _ in range(3):
        outage.over()

    assert said(caplog) == ["it is away: connection refused", "it is back"]
    assert not outage.lasts


def test_threads_that_notice_late_begin_no_second_one(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        outage.noticed("its connection was ended")
        clock.now += 0.1
        outage.over()
        clock.now += 0.1

    assert said(caplog) == ["it is away: its connection was ended", "it is back"]


def test_one_that_begins_soon_after_another_is_told_when_it_lasts(
    outage: Outage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.noticed("first")
    outage.over()
    caplog.clear()

    outage.noticed("second")
    assert said(caplog) == []
    clock.now += FLICKER
    outage.noticed("second, still")
    outage.over()

    assert said(caplog) == ["it is away: second, still", "it is back"]


def test_one_thread_at_a_time_tries_a_server_that_is_away(outage: Outage, clock: Clock) -> None:
    assert [outage.worth_a_try() for _ in range(3)] == [True, True, True]

    outage.noticed("away")
    assert not outage.worth_a_try()
    clock.now += AGAIN
    assert [outage.worth_a_try() for _ in range(3)] == [True, False, False]

    outage.over()
    assert outage.worth_a_try()
