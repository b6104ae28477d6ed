"""What a plan promises holds: no run, however much of it fails, exceeds the bounds, and some runs reach them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from orchestrator import each, fan_out, loop, route, rule, workflow
from orchestrator.definitions.vocabulary import Composable
from orchestrator.engine import Claimed
from orchestrator.planning.bounds import bounds
from tests.integration.engine.bench import Bench, Boom, named
from tests.integration.engine.reference import TOLD, Generator, act, decide

TRIES = 3  # attempts of an agent that says nothing else


def struggling(agent: str, value: Any, claimed: Claimed) -> Any:
    """As the reference, but only the last attempt counts."""
    if claimed.attempt < TRIES:
        raise Boom("not yet", retry_in=0.0)
    return act(agent, value)


def consumed(bench: Bench, run: UUID) -> tuple[int, int, int, int]:
    """Steps, calls, attempts and depth of a run."""
    (row,) = bench.query(
        "SELECT count(*), count(agent), coalesce(sum(attempt), 0),"
        " max(array_length(string_to_array(path, '/'), 1)) FROM steps WHERE run_id = %s",
        run,
    )
    return row[0], row[1], int(row[2]), row[3]


@pytest.mark.parametrize("seed", range(3))
def test_random_workflows_stay_within_their_bounds(bench: Bench, seed: int) -> None:
    bench.people, bench.news = decide, TOLD
    bench.rng.seed(seed)
    generator = Generator(100 + seed)
    runs = {}
    for number in range(40):
        definition = generator.workflow(f"random-{number}")
        runs[bench.submit(definition, ["x", number][number % 2])] = definition

    bench.drain(struggling)

    for run, definition in runs.items():
        most = bounds(definition)
        steps, calls, attempts, depth = consumed(bench, run)
        assert steps <= most.steps, definition.model_dump_json(indent=1)
        assert calls <= most.calls
        assert attempts <= most.attempts
        assert depth <= most.depth


A, B, C, J = (named(name) for name in "abcj")


@pytest.mark.parametrize(
    "body",
    [
        A >> B,
        fan_out(A, two=B >> C, join=J),
        each(A >> B, max_items=3),
        each(A, max_items=3, join=J, parallel=1),
        A.otherwise(B),
        loop(A >> B, max_rounds=4),
        loop(each(A, max_items=3), max_rounds=2),
        route(A, long=B >> C >> J, rules=[rule("r", go="long", when="true")], fallback="a"),
    ],
)
def test_the_worst_case_is_reached(bench: Bench, body: Composable) -> None:
    """A bound that nothing can reach would refuse what fits."""

    def worst(agent: str, value: Any, claimed: Claimed) -> Any:
        if claimed.attempt < TRIES:
            raise Boom("not yet", retry_in=0.0)
        if claimed.path.endswith("/do"):
            raise Boom("never")
        return [claimed.path, 2, 3]  # no two rounds alike

    definition = workflow("w", body)
    run = bench.submit(definition, [1, 2, 3])
    bench.drain(worst)

    most = bounds(definition)
    assert consumed(bench, run) == (most.steps, most.calls, most.attempts, most.depth)
