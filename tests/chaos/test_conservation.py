"""Nothing is lost, nothing is done twice, whatever a seeded script does to workers and servers meanwhile."""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.arena import Arena
from tests.chaos.campaign import Campaign, Report, Size
from tests.chaos.saboteur import FAULTS

SHORT = Size(runs=300, faults=len(FAULTS), gap=1.5)
LONG = Size(runs=10_000, faults=200, gap=2.0)
KILLS = ("kill a worker", "kill a parent", "kill a child", "kill a pool", "kill all")
Capture = pytest.CaptureFixture[str]
PROBE = 10.0
"""Seconds within which a fresh run ends after the last fault."""


def conserved(report: Report, capsys: Capture) -> None:
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.verdict.broken, str(report.verdict)
    assert report.probe < PROBE


@pytest.mark.timeout(240)
def test_nothing_is_lost_and_nothing_happens_twice(arena: Arena, capsys: Capture) -> None:
    conserved(Campaign(arena, seed=1, size=SHORT).run(), capsys)


@pytest.mark.chaos
@pytest.mark.timeout(2_400)
def test_nothing_is_lost_and_nothing_happens_twice_in_the_long_run(arena: Arena, capsys: Capture) -> None:
    seed = int(os.environ.get("BATON_CHAOS_SEED") or random.randrange(1_000_000))
    with capsys.disabled():
        print(f"\nreplay with: make chaos SEED={seed}")
    report = Campaign(arena, seed=seed, size=LONG).run()
    struck = [strike.kind for strike in report.facts.strikes]
    assert sum(kind in KILLS for kind in struck) >= 100
    assert struck.count("wipe the broker") >= 10
    conserved(report, capsys)
