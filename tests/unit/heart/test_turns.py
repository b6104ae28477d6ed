"""Copies of the timers share the work of looking: who looks when follows from the clock and the living workers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from orchestrator.clock.timers import BREATH, LONGEST, TURN, Seen, pause

LATENCY = 0.001
"""Seconds by which a look comes late."""


def seen(now: float, *, workers: int = 1, before: int = 0, next_in: float | None = None) -> Seen:
    nothing = dict.fromkeys(("steps", "runs", "schedules", "events"), False)
    return Seen(**nothing, next_in=next_in, now=now, workers=workers, before=before)


def looks(workers: int, seconds: float) -> list[float]:
    """The instants at which any of so many workers looks, when nothing is due."""
    found = []
    for before in range(workers):
        now = 1_000.0
        while (
            now := now + pause(seen(now, workers=workers, before=before), 0.0) + LATENCY
        ) < 1_000 + seconds:
            found.append(now)
    return sorted(found)


@pytest.mark.parametrize("workers", [1, 2, 3, 10, 37, 100])
def test_some_worker_looks_in_every_turn_and_a_large_fleet_looks_no_more_than_once_a_second_each(
    workers: int,
) -> None:
    found = looks(workers, 10.0)

    gaps = [after - before for before, after in pairwise(found)]
    assert max(gaps) <= TURN + 2 * LATENCY
    assert len(found) <= 10.0 * max(1 / TURN, workers / LONGEST) + workers


def test_a_process_that_is_no_worker_looks_as_if_it_were_alone() -> None:
    assert pause(seen(1_000.05, workers=0), 0.0) == pytest.approx(0.05)


def test_what_is_due_within_the_own_turn_is_waited_for_and_the_rest_left_to_the_next_one() -> None:
    assert pause(seen(1_000.01, workers=4, next_in=0.03), 0.0) == pytest.approx(0.03)
    assert pause(seen(1_000.01, workers=4, next_in=0.13), 0.0) == pytest.approx(0.39)
    assert pause(seen(1_000.21, workers=4, before=2, next_in=0.03), 0.0) == pytest.approx(0.03)
    assert pause(seen(1_000.21, workers=4, before=1, next_in=0.03), 0.0) == pytest.approx(0.29)


def test_the_time_that_firing_took_is_taken_off() -> None:
    assert pause(seen(1_000.0, next_in=0.05), 0.02) == pytest.approx(0.03)
    assert pause(seen(1_000.0, workers=4), 0.25) == pytest.approx(0.15)


def test_nobody_looks_without_taking_breath() -> None:
    assert pause(seen(1_000.0, next_in=0.0001), 0.0) == BREATH
    assert pause(seen(1_000.0), 0.0, busy=True) == BREATH
    assert pause(seen(1_000.0999), 0.0) == BREATH


def test_a_busy_copy_goes_on_within_its_own_turn_only() -> None:
    assert pause(seen(1_000.0, workers=4), 0.05, busy=True) == BREATH
    assert pause(seen(1_000.0, workers=4), 0.15, busy=True) == pytest.approx(0.25)
