"""Workers keep the limits of their agents together, and their other work does not wait for them."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from schemas.workflows import Workflow
from tests.agents import limited
from tests.integration.worker.stack import Stack
from tests.support import eventually

AGENTS = ("rationed", "rationed_thread", "rationed_rate", "unrationed")


def most(turns: list[list[float]]) -> int:
    """How many of these ran at the same time."""
    changes = sorted([(began, 1) for began, _ in turns] + [(ended, -1) for _, ended in turns])
    found = present = 0
    for _, change in changes:
        present += change
        found = max(found, present)
    return found


@pytest.mark.parametrize("given", [limited.many_waiting, limited.many_busy], ids=lambda one: one.name)
def test_two_workers_keep_to_a_concurrency_together(alone: Stack, given: Workflow) -> None:
    for _ in range(2):
        alone.begin(*AGENTS)

    turns = alone.run(given, [0.05] * 20)["results"]

    assert most(turns) == 2
    assert len(turns) == 20


def test_prefork_workers_keep_to_it_as_well(alone: Stack) -> None:
    alone.worker(*AGENTS, pool="prefork")

    assert most(alone.run(limited.many_busy, [0.05] * 8)["results"]) <= 2


def test_two_workers_keep_to_a_rate_together(alone: Stack) -> None:
    for _ in range(2):
        alone.begin(*AGENTS)

    run = alone.submit(limited.many_spaced, [0.0] * 15)
    run.result(40)

    starts = [
        at for (at,) in alone.query("SELECT started_at FROM attempts WHERE run_id = %s ORDER BY 1", run.id)
    ]
    gaps = [(later - one).total_seconds() for one, later in pairwise(starts)]
    assert len(starts) == 15
    assert min(gaps) >= 0.05


def test_what_waits_for_a_limit_holds_no_worker(alone: Stack) -> None:
    alone.worker(*AGENTS, concurrency=3)
    held = alone.submit(limited.many_waiting, [5.0] * 30)

    def waits() -> None:
        steps = alone.client.run(held.id).steps
        assert sum(step.limited is not None for step in steps) == 28

    eventually(waits, timeout=10)
    began = time.monotonic()
    assert alone.run(limited.free, 1.0) == 1.0
    assert time.monotonic() - began < 3
    held.cancel()


def test_a_stage_with_a_limit_is_not_begun_behind_its_back(alone: Stack) -> None:
    alone.worker(*AGENTS)
    runs = [alone.submit(limited.one_after, 0.2) for _ in range(8)]

    assert most([run.result(40) for run in runs]) <= 2


def test_a_killed_worker_frees_its_places(alone: Stack) -> None:
    first = alone.worker(*AGENTS)
    run = alone.submit(limited.many_waiting, [1.5] * 4)

    def both_run() -> None:
        assert sum(step.state == "running" for step in alone.client.run(run.id).steps) == 2

    eventually(both_run, timeout=20)
    first.kill()
    alone.begin(*AGENTS)

    turns = run.result(60)["results"]
    assert most(turns) <= 2
    assert len(turns) == 4
