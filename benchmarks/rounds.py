"""How soon a run begins, and what a round of each pattern costs in time, one run after the other on an idle worker.

The agents do nothing, so all of it is overhead. Beside it stands what plain Celery takes from one link of a chain to
the next, which is the least that a round on Celery can take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import agents
from benchmarks.celery_app import STAGES
from benchmarks.scenarios import Sizes
from benchmarks.sides import PATIENCE, Baton, PlainCelery
from orchestrator.client import Client, RunHandle
from schemas.workflows import Workflow


@dataclass(frozen=True)
class Round:
    """Milliseconds that something takes, and how many steps one after the other it consists of."""

    title: str
    milliseconds: float
    steps: int


def measure_rounds(baton: Baton, plain: PlainCelery, sizes: Sizes) -> Iterator[Round]:
    """Medians over single runs."""
    plain.pipelines(1)
    yield Round("plain Celery: from one link of a chain to the next", _links(plain, sizes.singles), 1)
    for title, workflow, value, rounds, steps in _PATTERNS:
        runs = [_run(baton.client, workflow, value) for _ in range(sizes.singles + 1)][1:]
        if rounds == 0:
            yield Round(title, statistics.median(first for first, _ in runs), steps)
        else:
            yield Round(title, statistics.median(whole for _, whole in runs) / rounds, steps)
    yield Round(
        "approval: from the decision to the next step's start",
        statistics.median([_decided(baton.client) for _ in range(sizes.singles)]),
        1,
    )


def _links(plain: PlainCelery, singles: int) -> float:
    took = []
    for _ in range(singles):
        began = time.perf_counter()
        plain.pipelines(1)
        took.append(1000 * (time.perf_counter() - began) / STAGES)
    return statistics.median(took)


def _run(client: Client, workflow: Workflow, value: Any) -> tuple[float, float]:
    """Milliseconds until the first step began, and from then until the run had ended."""
    began = time.time()
    run = client.submit(workflow, value)
    run.result(PATIENCE)
    view = run.view()
    assert view.finished_at is not None
    starts = [step.started_at for step in view.steps if step.started_at is not None]
    # A run that only starts another one has no step that a worker begins.
    first = min(starts, default=view.created_at).timestamp()
    return 1000 * (first - began), 1000 * (view.finished_at.timestamp() - first)


def _decided(client: Client) -> float:
    run = client.submit(agents.approved, 0)
    waits = _waiting(client, run)
    began = time.time()
    client.approve(waits, by="a benchmark")
    run.result(PATIENCE)
    started = [step.started_at for step in run.view().steps if step.path == "1"]
    assert started[0] is not None
    return 1000 * (started[0].timestamp() - began)


def _waiting(client: Client, run: RunHandle) -> int:
    until = time.monotonic() + PATIENCE
    while not (found := client.approvals(run_id=run.id)):
        assert time.monotonic() < until, "nobody was asked"
        time.sleep(0.01)
    return found[0].id


_PATTERNS: list[tuple[str, Workflow, Any, int, int]] = [
    ("from submit to the first step's start", agents.single, 0, 0, 1),
    ("a router's decision by a rule, and its way", agents.routed, 1, 1, 1),
    ("a round of a loop", agents.looped, 0, agents.ROUNDS, 1),
    ("a round of a supervisor: plan, three workers, review", agents.supervised, 0, 2, 3),
    ("a child run of one step", agents.started, 0, 1, 1),
    ("a debate: three debaters and a judge", agents.debated, 0, 1, 2),
]
"""Title, workflow, input, rounds in a run (0: the time until its first step counts), steps one after the other."""
