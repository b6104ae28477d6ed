"""Workflows as stages with real workers: awaited, and cancelled from above while an agent is at work."""

from __future__ import annotations

from pathlib import Path

from orchestrator.definitions.vocabulary import child, each, workflow
from schemas.runs import RunState
from tests.agents import arithmetic, misbehaving
from tests.integration.worker.stack import Stack
from tests.support import eventually


def test_each_starts_a_run_for_every_item_and_joins_what_they_give(shared: Stack) -> None:
    twice = workflow("twice", arithmetic.increment >> arithmetic.double)
    body = arithmetic.count_to >> each(child(twice), join=arithmetic.add_up)

    run = shared.submit(workflow("family", body), 30)

    assert run.result(60) == sum(2 * (n + 1) for n in range(30))
    assert {one.state for one in run.view().children} == {RunState.COMPLETED}
    assert len(run.view().children) == 30


def test_a_cancel_interrupts_the_agent_of_a_child(shared: Stack, tmp_path: Path) -> None:
    inner = workflow("asleep", misbehaving.patient)
    run = shared.submit(workflow("above", child(inner)), str(tmp_path / "x"))
    (below,) = run.view().children
    eventually((tmp_path / "x.started").exists)

    run.cancel("enough")

    assert shared.client.run(below.id).state is RunState.CANCELLED
    eventually((tmp_path / "x.stopped").exists)
