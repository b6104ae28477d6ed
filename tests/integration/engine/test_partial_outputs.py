"""What a run without a result has come to is shown beside its error."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import child, each, fan_out, loop, route, workflow
from orchestrator.watching import partial
from schemas.outcomes import Choice
from schemas.usage import Bounds, Budget
from tests.integration.engine.bench import Bench, Boom, Claimed, named
from tests.integration.engine.test_budgets import spend
from tests.integration.engine.test_child_runs import children

A, B, C, D, BAD = (named(name) for name in ("a", "b", "c", "d", "bad"))
DEAR = named("dear", bounds=Bounds(tokens=1))
LIST = named("list", gives={"type": "array"})
CHOICE = named("choice", gives=Choice.model_json_schema())


def says(agent: str, value: Any, claimed: Claimed) -> Any:
    """Each agent says who it is."""
    if agent == "bad":
        raise Boom("ill")
    return {"list": [1, 2, 3], "choice": {"choice": "none"}}.get(agent, agent)


def so_far(bench: Bench, run: UUID) -> list[tuple[str, str | None, Any]]:
    """What it came to, the same whoever asks."""
    end = bench.end(run)
    assert end.partial == bench.view(run).partial
    return [(one.path, one.agent, one.output) for one in end.partial]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (BAD >> A, []),
        (A >> B >> BAD >> C, [("1", "b", "b")]),
        (A >> fan_out(B, BAD, C), [("1/b", "b", "b"), ("1/c", "c", "c")]),
        (A >> fan_out(B, C) >> BAD, [("1", None, {"b": "b", "c": "c", "gaps": []})]),
        (A >> fan_out(B, C, join=D) >> BAD, [("1/join", "d", "d")]),
        (A >> fan_out(B, C, join=BAD), [("1/b", "b", "b"), ("1/c", "c", "c")]),
        (A >> fan_out(BAD), [("0", "a", "a")]),
        (LIST >> each(A >> BAD, require=1), [("1/0/0", "a", "a"), ("1/1/0", "a", "a"), ("1/2/0", "a", "a")]),
        (A >> BAD.otherwise(B >> BAD), [("1/else/0", "b", "b")]),
        (A >> BAD.optional() >> BAD, [("0", "a", "a")]),
        (A >> B.when("false") >> BAD, [("0", "a", "a")]),
        (A >> loop(B >> C, max_rounds=1) >> BAD, [("1/0/1", "c", "c")]),
        (A >> route(way=B >> BAD, by=CHOICE, fallback="way") >> D, [("1/way/0", "b", "b")]),
        (A >> route(BAD, by=CHOICE, fallback="bad"), [("0", "a", "a")]),
    ],
)
def test_it_is_what_the_last_finished_stages_produced(
    bench: Bench, body: Any, expected: list[tuple[str, str | None, Any]]
) -> None:
    run = bench.submit(workflow("w", body), "x")
    bench.drain(says)

    assert bench.end(run).state == "failed"
    assert so_far(bench, run) == expected


def test_a_stage_that_is_refused_for_its_budget_leaves_what_was_paid_for(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> DEAR, budget=Budget(tokens=10)))
    spend(bench, run, "0", tokens=10)
    bench.drain()

    assert bench.end(run).error is not None
    assert so_far(bench, run) == [("0", "a", "x")]


def test_what_a_child_came_to_is_what_its_step_did(bench: Bench) -> None:
    inner, empty = workflow("inner", B >> BAD), workflow("empty", BAD)
    run = bench.submit(workflow("w", A >> fan_out(x=child(inner), y=C)), "x")
    other = bench.submit(workflow("w", A >> child(empty)), "x")
    bench.drain(says)

    below = children(bench, run)["1/x"]
    assert [(one.run_id, one.path) for one in bench.end(run).partial] == [(below, "0"), (run, "1/y")]
    assert so_far(bench, other) == [("0", "a", "a")]


def test_a_cancelled_run_has_come_to_something_too(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B >> C), "x")
    bench.drain(says, rounds=2)
    assert bench.view(run).partial == ()
    bench.engine.cancel(run)

    assert len(so_far(bench, run)) == 1


def test_a_run_with_a_result_has_nothing_beside_it(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> BAD.optional()), "x")
    bench.drain(says)

    assert so_far(bench, run) == []


def test_of_many_the_first_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "MOST", 2)
    run = bench.submit(workflow("w", LIST >> each(A) >> BAD), "x")
    other = bench.submit(workflow("w", LIST >> each(A >> BAD)), "x")
    bench.drain(says)

    assert so_far(bench, run) == [("1", None, {"results": ["a", "a", "a"], "gaps": []})]
    assert [path for path, *_ in so_far(bench, other)] == ["1/0/0", "1/1/0"]
