"""Budgets of runs: what is consumed counts, also below a run, and what consumes is not begun once it is used up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.vocabulary import approve, child, each, fan_out, loop, workflow
from orchestrator.engine import Engine, Onward, Pointer, Ready, WorkerId
from orchestrator.identify import new_id
from orchestrator.watching.replay import Replay
from schemas.events import EventKind
from schemas.outcomes import Done, ErrorInfo, Failed
from schemas.usage import Bounds, Budget, Usage
from tests.integration.engine.bench import EVERY_AGENT, Bench, done, named
from tests.integration.engine.test_child_runs import children, state

A, B, C = (named(name) for name in "abc")
DEAR, DEARER = (named(name, bounds=Bounds(tokens=10)) for name in ("dear", "dearer"))
GATHER = named(
    "gather",
    takes={"type": "object", "properties": {"results": {"type": "array"}, "gaps": {"type": "array"}}},
)


def spend(bench: Bench, run: UUID, path: str, **usage: float) -> None:
    """Claim and finish a step that consumes this."""
    finished = done(bench.claim(run, path), "x")
    bench._record(bench.engine, replace(finished, outcome=Done(usage=Usage.model_validate(usage))))


def exhausted(bench: Bench, run: UUID) -> list[str]:
    """What its story says of budgets that are used up."""
    told = [event for event in bench.events(run) if event.kind is EventKind.RUN_BUDGET_EXHAUSTED]
    return [event.data["message"] for event in told]


def message(bench: Bench, run: UUID) -> str:
    error = bench.end(run).error
    assert error is not None
    assert error.type == "BudgetExceeded"
    return error.message


@pytest.mark.parametrize(
    ("budget", "usage", "text"),
    [
        (Budget(tokens=100), {"tokens": 101}, "101 of 100 tokens"),
        (Budget(tokens=100), {"tokens": 100}, "100 of 100 tokens"),
        (Budget(usd=0.5), {"usd": 0.75}, "0.75 of 0.5 USD"),
        (Budget(model_calls=2), {"model_calls": 3}, "3 of 2 model calls"),
    ],
)
def test_what_consumes_is_not_begun_once_the_budget_is_used_up(
    bench: Bench, budget: Budget, usage: dict[str, float], text: str
) -> None:
    run = bench.submit(workflow("w", A >> DEAR >> C, budget=budget))

    spend(bench, run, "0", **usage)
    bench.drain()

    used_up = f"the budget of run {run} is used up: {text}"
    assert message(bench, run) == used_up
    assert bench.states(run) == {"0": "done", "1": "failed"}
    assert exhausted(bench, run) == [f"{used_up}; what consumes more of it is not begun"]


def test_what_is_left_of_a_budget_may_be_consumed(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> DEAR, budget=Budget(tokens=100)))

    spend(bench, run, "0", tokens=99)
    bench.drain()

    assert bench.end(run).state == "completed"
    assert not bench.view(run).degraded
    assert exhausted(bench, run) == []


def test_what_consumes_nothing_is_begun_and_gives_what_there_is(bench: Bench) -> None:
    # Given an agent that says nothing beforehand, so that it is known by what it has told
    body = each(A, require="any", parallel=1, join=GATHER) >> DEAR.otherwise(B) >> DEARER.optional() >> C
    run = bench.submit(workflow("w", body, budget=Budget(tokens=100)), list("xyz"))
    bench.messages = []

    spend(bench, run, "0/0", tokens=60)
    spend(bench, run, "0/1", tokens=60)
    bench.drain()

    # Then a join, a fallback and whatever else costs nothing is done with it
    end = bench.end(run)
    assert (end.state, end.output["results"]) == ("completed", ["x", "x"])
    assert [gap["branch"] for gap in end.output["gaps"]] == ["2"]
    assert bench.view(run).degraded
    refused = [path for path, state in bench.states(run).items() if state == "failed"]
    assert refused == ["0/2", "1/do", "2/do"]
    assert len(exhausted(bench, run)) == 1


def test_what_is_running_goes_on_to_its_end(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(A, DEAR, join=GATHER), budget=Budget(tokens=100)))
    running = bench.claim(run, "0/dear")

    spend(bench, run, "0/a", tokens=150)
    assert bench.finish(running, "paid").accepted
    bench.drain()

    assert bench.end(run).state == "completed"
    assert not bench.view(run).degraded


def test_a_run_whose_last_step_tells_more_than_was_left_is_complete(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B, budget=Budget(tokens=100)))

    spend(bench, run, "0", tokens=90)
    spend(bench, run, "1", tokens=50)  # paid for, and there is nothing after it

    assert bench.end(run).state == "completed"
    assert not bench.view(run).degraded
    (told,) = exhausted(bench, run)
    assert "140 of 100 tokens" in told
    assert bench.kinds(run)[-2:] == ["run.budget_exhausted", "run.completed"]


def test_it_is_told_once_that_a_budget_is_used_up_and_replayed(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B >> C, budget=Budget(tokens=100)))

    spend(bench, run, "0", tokens=100)
    spend(bench, run, "1", tokens=50)
    spend(bench, run, "2", tokens=50)

    assert len(exhausted(bench, run)) == 1
    assert EventKind.RUN_BUDGET_WARNING not in bench.kinds(run)
    assert Replay(bench.plan(run), bench.events(run)).state == "completed"


def test_attempts_that_failed_were_paid_for_too(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B, budget=Budget(tokens=100)))
    for _ in range(2):
        claimed = bench.claim(run, "0")
        outcome = Failed(error=ErrorInfo(type="Boom", message="no"), retry_in=0.0, usage=Usage(tokens=60))
        bench.engine.record(replace(done(claimed), outcome=outcome, output=None))
        bench.query("UPDATE steps SET due_at = NULL WHERE run_id = %s", run)

    bench.drain()

    assert "120 of 100 tokens" in message(bench, run)


def test_what_children_consume_counts_above_them(bench: Bench) -> None:
    inner = workflow("inner", A >> DEAR)
    middle = workflow("middle", child(inner), budget=Budget(tokens=1_000))
    run = bench.submit(
        workflow("outer", fan_out(x=child(middle), y=A, require="any"), budget=Budget(tokens=100))
    )
    middle_run = children(bench, run)["0/x"]
    inner_run = children(bench, middle_run)["0"]

    spend(bench, run, "0/y", tokens=60)
    spend(bench, inner_run, "0", tokens=50)
    bench.drain()

    # Then it is a gap above: what is used up is said where it is refused
    assert message(bench, inner_run) == f"the budget of run {run} is used up: 110 of 100 tokens"
    assert (bench.end(run).state, state(bench, middle_run)) == ("completed", "failed")
    assert bench.view(run).degraded
    assert (len(exhausted(bench, run)), exhausted(bench, middle_run), exhausted(bench, inner_run)) == (
        1,
        [],
        [],
    )


def test_a_child_that_has_used_up_its_own_budget_fails_its_step_alone(bench: Bench) -> None:
    inner = workflow("inner", A >> DEAR, budget=Budget(tokens=10))
    run = bench.submit(workflow("outer", child(inner).otherwise(DEARER), budget=Budget(tokens=100)))
    inner_run = children(bench, run)["0/do"]

    spend(bench, inner_run, "0", tokens=50)
    bench.drain()

    assert bench.end(run).state == "completed"
    assert "50 of 10 tokens" in message(bench, inner_run)
    (step,) = [step for step in bench.view(run).steps if step.path == "0/do"]
    assert step.usage.tokens == bench.view(run).totals.usage.tokens == 50


def test_a_child_that_was_let_go_pays_for_itself(bench: Bench) -> None:
    run = bench.submit(
        workflow("outer", child(workflow("inner", A), wait=False) >> B, budget=Budget(tokens=1))
    )

    spend(bench, children(bench, run)["0"], "0", tokens=50)
    bench.drain()

    assert bench.end(run).state == "completed"


def test_a_resumed_run_has_its_budget_before_it_again(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> DEAR, budget=Budget(tokens=100)))
    spend(bench, run, "0", tokens=150)
    bench.drain()
    assert state(bench, run) == "failed"

    bench.messages += bench.engine.resume(run)
    again = bench.claim(run, "1")
    assert again.used_up == ""
    bench._record(bench.engine, replace(done(again), outcome=Done(usage=Usage(tokens=120))))

    assert bench.end(run).state == "completed"
    assert len(exhausted(bench, run)) == 2


def test_a_fork_has_a_budget_of_its_own(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> DEAR, budget=Budget(tokens=100)))
    spend(bench, run, "0", tokens=150)
    bench.drain()

    fork = new_id()
    bench.messages = bench.engine.fork(run, "1", fork)
    bench.drain()

    assert bench.end(fork).state == "completed"


def test_a_paused_run_that_has_used_up_its_budget_goes_on_with_what_costs_nothing(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(A, DEAR, require="any") >> C, budget=Budget(tokens=100)))
    claimed = bench.claim(run, "0/a")
    bench.engine.pause(run)
    bench.engine.record(replace(done(claimed), outcome=Done(usage=Usage(tokens=101))))
    assert state(bench, run) == "paused"

    bench.messages = bench.engine.resume(run)
    bench.drain()

    assert bench.end(run).state == "completed"
    assert bench.states(run) == {"0": "done", "0/a": "done", "0/dear": "failed", "1": "done"}
    assert len(exhausted(bench, run)) == 1


def test_the_next_stage_may_be_claimed_with_the_outcome_that_uses_it_up(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B >> DEAR, budget=Budget(tokens=100)))
    first = bench.claim(run, "0")
    dear = replace(done(first), outcome=Done(usage=Usage(tokens=100)))

    second = bench.engine.record(replace(dear, onward=Onward(first, EVERY_AGENT))).next
    assert second is not None
    third = bench.engine.record(replace(done(second), onward=Onward(second, EVERY_AGENT))).next
    assert third is not None

    assert (second.used_up, third.used_up) == ("", f"the budget of run {run} is used up: 100 of 100 tokens")


def test_who_was_asked_meanwhile_may_answer(bench: Bench) -> None:
    body = fan_out(A, x=approve("publish") >> C, join=GATHER)
    run = bench.submit(workflow("w", body, budget=Budget(tokens=100)), "text")
    spend(bench, run, "0/a", tokens=150)
    bench.people = lambda value: value
    bench.drain()

    assert bench.end(run).state == "completed"
    assert not bench.view(run).degraded


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (A >> B, {"1"}),
        (fan_out(A, B, parallel=1, require="any", join=GATHER), {"0/b"}),
        (fan_out(A, B, parallel=1, require="any", join=DEAR), {"0/b", "0", "0/join"}),
        (A >> B.otherwise(C), {"1/do"}),
        (A >> B.otherwise(C >> C), {"1/do", "1/else", "1/else/0", "1"}),
        (A >> fan_out(B, C, require=0, join=GATHER), {"1/b", "1/c"}),
        (A >> B.optional(), {"1/do"}),
    ],
)
def test_seconds_stop_all_but_what_ends_what_was_begun(bench: Bench, body: Any, refused: set[str]) -> None:
    run = bench.submit(workflow("w", body, budget=Budget(seconds=1e-6)), "x")
    bench.drain()

    end = bench.end(run)
    assert {path for path, how in bench.states(run).items() if how == "failed"} == refused
    assert end.state == ("failed" if refused & {"0", "1"} else "completed")
    assert bench.view(run).degraded
    (told,) = exhausted(bench, run)
    assert told.endswith(" of 1e-06 seconds; what consumes more of it is not begun")


def test_branches_that_end_together_are_added_up(bench: Bench) -> None:
    # Given branches in many hands, each of which consumes a little
    width = 24
    body = each(A) >> DEAR.optional() >> C
    run = bench.submit(workflow("w", body, budget=Budget(tokens=width)), list(range(width)))
    bench.messages = []
    together = threading.Barrier(8)
    sent: list[Ready] = []

    def work(number: int) -> None:
        engine = Engine(bench.pool, WorkerId(uuid4(), f"w{number}"))
        for index in range(number, width, 8):
            claimed = engine.claim(Pointer(run, f"0/{index}"))
            together.wait()
            spent = replace(done(claimed), outcome=Done(usage=Usage(tokens=1)))  # type: ignore[arg-type]
            sent.extend(engine.record(spent).ready)

    # When they end at the same moment
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    bench.messages = sent
    bench.drain()

    # Then somebody saw the sum, once, and so does each claim that follows
    assert len(exhausted(bench, run)) == 1
    assert f"{width} of {width} tokens" in exhausted(bench, run)[0]
    assert bench.states(run)["1/do"] == "failed"
    assert bench.end(run).state == "completed"


def test_those_who_end_a_run_together_tell_what_it_comes_to(bench: Bench) -> None:
    # Given two last branches of many runs, each of which has the half of a budget
    body = fan_out(A, B)
    for _ in range(12):
        run = bench.submit(workflow("w", body, budget=Budget(tokens=100)))
        together = threading.Barrier(2)

        def work(path: str, run: UUID = run, together: threading.Barrier = together) -> None:
            engine = Engine(bench.pool, WorkerId(uuid4(), path))
            claimed = engine.claim(Pointer(run, path))
            together.wait()
            engine.record(replace(done(claimed), outcome=Done(usage=Usage(tokens=50))))  # type: ignore[arg-type]

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work, ("0/a", "0/b")))

        # Then it is told before the run has ended
        assert bench.end(run).state == "completed"
        assert bench.kinds(run)[-1] == "run.completed"
        assert len(exhausted(bench, run)) == 1


def test_a_loop_that_has_used_up_its_budget_ends_with_the_best_result_so_far(bench: Bench) -> None:
    run = bench.submit(workflow("w", loop(A, max_rounds=5), budget=Budget(tokens=100)), 0)

    spend(bench, run, "0/0", tokens=40)
    finished = done(bench.claim(run, "0/1"), "y")
    bench._record(bench.engine, replace(finished, outcome=Done(usage=Usage(tokens=70))))

    end = bench.end(run)
    assert (end.state, end.output) == ("completed", "y")
    assert bench.view(run).degraded
    (warning,) = [event.data for event in bench.events(run) if event.kind is EventKind.STEP_WARNING]
    assert warning["message"] == "over budget: 0 of 100 tokens are left: stopped with the best result so far"


def test_a_loop_that_has_no_seconds_left_does_not_go_on_with_what_stands_in(bench: Bench) -> None:
    run = bench.submit(workflow("w", loop(A.otherwise(C), max_rounds=5), budget=Budget(seconds=1e-6)), 0)
    bench.drain(lambda agent, value, claimed: value + 1)

    assert bench.end(run).output == 1
    assert "0/1" not in bench.states(run)
    assert bench.view(run).degraded


def test_a_run_without_a_budget_writes_nothing_of_it(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    spend(bench, run, "0", tokens=10_000)

    assert bench.query("SELECT count(*) FROM spendings") == [(0,)]
