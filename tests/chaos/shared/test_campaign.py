"""What workers share under chaos: circuits, cached results, limits, batches and memories are those of one cluster."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from tests.chaos.arena import Arena, Servers
from tests.chaos.campaign import Size
from tests.chaos.saboteur import script
from tests.chaos.shared.campaign import APP, Errands, Report
from tests.chaos.shared.office import Office
from tests.support import Processes

Capture = pytest.CaptureFixture[str]

SCRIPT = (
    "kill a worker",
    "freeze a worker",
    "wipe the broker",
)
LONG = Size(runs=2_000, faults=120, gap=2.0)


def run(
    servers: Servers, processes: Processes, capsys: Capture, seed: int, size: Size, script: Sequence[str]
) -> Report:
    office = Office(lambda: servers.ledger.is_stormy, seed)
    with office.provider as provider:
        arena = Arena(servers, processes, app=APP, env={"CHAOS_PROVIDER": provider.base_url})
        try:
            report = Errands(arena, seed, size, office).run_errands(script)
        finally:
            arena.close()
    with capsys.disabled():
        print(f"\n{report}")
    assert not report.verdict.broken, str(report.verdict)
    return report


@pytest.mark.timeout(180)
def test_workers_are_one_cluster(servers: Servers, processes: Processes, capsys: Capture) -> None:
    run(servers, processes, capsys, 1, Size(runs=30, faults=len(SCRIPT), gap=0.5), SCRIPT)


@pytest.mark.chaos
@pytest.mark.timeout(3_000)
def test_workers_are_one_cluster_in_the_long_run(
    servers: Servers, processes: Processes, capsys: Capture
) -> None:
    seed = int(os.environ.get("BATON_CHAOS_SEED") or random.randrange(1_000_000))
    with capsys.disabled():
        print(f"\nreplay with: make chaos SEED={seed}")
    report = run(servers, processes, capsys, seed, LONG, script(LONG.faults, random.Random(seed)))
    assert report.lost > 100
    assert report.facts.openings
