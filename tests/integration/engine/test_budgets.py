"""Budgets of runs: what is consumed counts, also below a run, and nothing starts once it is too much."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.vocabulary import child, each, fan_out, loop, workflow
from orchestrator.engine import Engine, Pointer, Refused, WorkerId
from schemas.events import EventKind
from schemas.outcomes import Done, ErrorInfo, Failed
from schemas.usage import Budget, Usage
from tests.integration.engine.bench import Bench, done, named
from tests.integration.engine.test_child_runs import children, state

A, B, C = (named(name) for name in "abc")


def spend(bench: Bench, run: UUID, path: str, **usage: float) -> None:
    """Claim and finish a step that consumes this."""
    finished = done(bench.claim(run, path), "x")
    bench._record(bench.engine, replace(finished, outcome=Done(usage=Usage.model_validate(usage))))


def message(bench: Bench, run: UUID) -> str:
    error = bench.end(run).error
    assert error is not None
    assert error.type == "BudgetExceeded"
    return error.message


@pytest.mark.parametrize(
    ("budget", "usage", "text"),
    [
        (Budget(tokens=100), {"tokens": 101}, "101 tokens, more than its budget of 100"),
        (Budget(usd=0.5), {"usd": 0.75}, "0.75 USD, more than its budget of 0.5"),
        (Budget(model_calls=2), {"model_calls": 3}, "3 model calls, more than its budget of 2"),
    ],
)
def test_a_run_that_consumes_too_much_fails_and_nothing_of_it_starts(
    bench: Bench, budget: Budget, usage: dict[str, float], text: str
) -> None:
    run = bench.submit(workflow("w", A >> B, budget=budget))

    spend(bench, run, "0", **usage)

    assert isinstance(bench.engine.claim(Pointer(run, "1")), Refused)
    bench.drain()
    assert message(bench, run) == f"run {run} has consumed {text}"
    assert bench.states(run) == {"0": "done", "1": "skipped"}


def test_a_run_may_consume_its_budget_and_end_with_more(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B, budget=Budget(tokens=100)))

    spend(bench, run, "0", tokens=100)
    spend(bench, run, "1", tokens=50)  # paid for, and there is nothing after it

    assert bench.end(run).state == "completed"


def test_attempts_that_failed_were_paid_for_too(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B, budget=Budget(tokens=100)))
    for _ in range(2):
        claimed = bench.claim(run, "0")
        outcome = Failed(error=ErrorInfo(type="Boom", message="no"), retry_in=0.0, usage=Usage(tokens=60))
        bench.engine.record(replace(done(claimed), outcome=outcome, output=None))
        bench.query("UPDATE steps SET due_at = NULL WHERE run_id = %s", run)

    bench.drain()

    assert "120 tokens" in message(bench, run)


def test_what_children_consume_counts_above_them(bench: Bench) -> None:
    inner = workflow("inner", A >> B)
    middle = workflow("middle", child(inner), budget=Budget(tokens=1_000))
    run = bench.submit(workflow("outer", fan_out(x=child(middle), y=A), budget=Budget(tokens=100)))
    middle_run = children(bench, run)["0/x"]
    inner_run = children(bench, middle_run)["0"]

    spend(bench, run, "0/y", tokens=60)
    spend(bench, inner_run, "0", tokens=50)

    assert isinstance(bench.engine.claim(Pointer(inner_run, "1")), Refused)
    bench.drain()
    for one in (run, middle_run, inner_run):
        assert message(bench, one) == f"run {run} has consumed 110 tokens, more than its budget of 100"


def test_a_child_that_exceeds_its_own_budget_fails_its_step_alone(bench: Bench) -> None:
    inner = workflow("inner", A >> B, budget=Budget(tokens=10))
    run = bench.submit(workflow("outer", child(inner).otherwise(C), budget=Budget(tokens=100)))
    inner_run = children(bench, run)["0/do"]

    spend(bench, inner_run, "0", tokens=50)
    bench.drain()

    assert bench.end(run).state == "completed"
    assert "50 tokens, more than its budget of 10" in message(bench, inner_run)
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
    run = bench.submit(workflow("w", A >> B, budget=Budget(tokens=100)))
    spend(bench, run, "0", tokens=150)
    bench.drain()
    assert state(bench, run) == "failed"

    bench.messages += bench.engine.resume(run)
    spend(bench, run, "1", tokens=90)

    assert bench.end(run).state == "completed"


def test_a_paused_run_that_consumed_too_much_fails_when_it_is_resumed(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(A, B) >> C, budget=Budget(tokens=100)))
    claimed = bench.claim(run, "0/a")
    bench.engine.pause(run)
    bench.engine.record(replace(done(claimed), outcome=Done(usage=Usage(tokens=101))))
    assert state(bench, run) == "paused"

    bench.messages = bench.engine.resume(run)
    bench.drain()

    assert "101 tokens" in message(bench, run)


def test_branches_that_end_together_are_added_up(bench: Bench) -> None:
    # Given branches in many hands, each of which consumes a little
    width = 24
    body = each(A) >> B
    run = bench.submit(workflow("w", body, budget=Budget(tokens=width - 1)), list(range(width)))
    bench.messages = []
    together = threading.Barrier(8)

    def work(number: int) -> None:
        engine = Engine(bench.pool, WorkerId(uuid4(), f"w{number}"))
        for index in range(number, width, 8):
            claimed = engine.claim(Pointer(run, f"0/{index}"))
            together.wait()
            engine.record(replace(done(claimed), outcome=Done(usage=Usage(tokens=1))))  # type: ignore[arg-type]

    # When they end at the same moment
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))

    # Then somebody saw the sum, and nothing follows
    assert isinstance(bench.engine.claim(Pointer(run, "1")), Refused)
    bench.fire()
    assert f"{width} tokens" in message(bench, run)


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


def test_a_run_without_a_budget_writes_nothing_of_it(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    spend(bench, run, "0", tokens=10_000)

    assert bench.query("SELECT count(*) FROM spendings") == [(0,)]
