"""Paid work under chaos: nothing is lost, paid for twice or done twice, and no limit or budget is exceeded."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from tests.chaos.arena import Arena, Servers
from tests.chaos.campaign import Size
from tests.chaos.paid.campaign import APP, Report, Spree
from tests.chaos.paid.shop import Shop
from tests.chaos.saboteur import script
from tests.support import Processes

Capture = pytest.CaptureFixture[str]

SCRIPT = (
    "kill a worker",
    "wipe the broker",
    "freeze a worker",
    "postgres restarts",
)
LONG = Size(runs=2_000, faults=120, gap=2.0)


def spent(
    servers: Servers, processes: Processes, capsys: Capture, seed: int, size: Size, script: Sequence[str]
) -> Report:
    shop = Shop(seed, slowest=0.4)
    with shop.provider as provider:
        arena = Arena(servers, processes, app=APP, env={"CHAOS_PROVIDER": provider.base_url})
        try:
            report = Spree(arena, seed, size, shop).spend(script)
        finally:
            arena.close()
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.verdict.broken, str(report.verdict)
    return report


@pytest.mark.timeout(180)
def test_paid_work_is_done_and_paid_for_once(servers: Servers, processes: Processes, capsys: Capture) -> None:
    spent(servers, processes, capsys, 1, Size(runs=36, faults=len(SCRIPT), gap=0.5), SCRIPT)


@pytest.mark.chaos
@pytest.mark.timeout(3_000)
def test_paid_work_is_done_and_paid_for_once_in_the_long_run(
    servers: Servers, processes: Processes, capsys: Capture
) -> None:
    seed = int(os.environ.get("BATON_CHAOS_SEED") or random.randrange(1_000_000))
    with capsys.disabled():
        print(f"\nreplay with: make chaos SEED={seed}")
    report = spent(servers, processes, capsys, seed, LONG, script(LONG.faults, random.Random(seed)))
    assert report.lost > 100
