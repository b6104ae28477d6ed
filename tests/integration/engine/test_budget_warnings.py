"""Who is told that a budget is nearly used up, or wholly, where it is less plain than that."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.vocabulary import each, workflow
from orchestrator.engine.settling import Paid
from orchestrator.standing_budgets import StandingBudgets
from schemas.outcomes import Done
from schemas.runs import RunState
from schemas.usage import Budget, Usage
from tests.integration.engine.bench import Bench, done, named

A = named("a")


def pay(bench: Bench, run: UUID, tokens: int, agent: str = "a") -> None:
    """A call of a model costs this."""
    usage = Usage(tokens=tokens, model_calls=1)
    bench.engine.settle_calls([Paid(uuid4(), run, "0", 1, agent, "openai:scripted", usage, 0)])


def told(bench: Bench, run: UUID) -> list[str]:
    """What its story says of budgets."""
    return [kind.removeprefix("run.budget_") for kind in bench.kinds(run) if kind.startswith("run.budget_")]


def test_a_budget_that_an_operator_has_raised_is_news_again_when_it_is_used_up(bench: Bench) -> None:
    standing, run = StandingBudgets(bench.pool), bench.submit(workflow("w", A))
    standing.put("tenant", "default", Budget(tokens=100))
    pay(bench, run, 90)
    pay(bench, run, 10)
    assert told(bench, run) == ["warning", "exhausted"]

    standing.put("tenant", "default", Budget(tokens=200))
    pay(bench, run, 70)
    pay(bench, run, 30)

    assert told(bench, run) == ["warning", "exhausted"] * 2


def test_a_budget_that_is_set_as_it_is_has_been_told_of(bench: Bench) -> None:
    standing, run = StandingBudgets(bench.pool), bench.submit(workflow("w", A))
    for _ in range(2):
        standing.put("tenant", "default", Budget(tokens=100))
        bench.engine.declare_budget("a", Budget(tokens=100))
        pay(bench, run, 50)
        pay(bench, run, 50)

    assert sorted(told(bench, run)) == ["exhausted", "exhausted"]


def test_a_budget_that_was_away_is_news_again(bench: Bench) -> None:
    standing, run = StandingBudgets(bench.pool), bench.submit(workflow("w", A))
    for _ in range(2):
        standing.put("tenant", "default", Budget(tokens=100))
        pay(bench, run, 100)
        standing.remove("tenant", "default")

    assert told(bench, run) == ["exhausted"] * 2


def test_an_agent_that_only_summarises_for_others_has_a_budget_that_is_told_of(bench: Bench) -> None:
    StandingBudgets(bench.pool).put("agent", "brief", Budget(tokens=100))
    run, other = (bench.submit(workflow("w", A)) for _ in range(2))

    pay(bench, run, 100, agent="brief")

    assert (told(bench, run), told(bench, other)) == (["exhausted"], [])


@pytest.mark.parametrize(
    "budget",
    [Budget(usd=5e-324), Budget(seconds=5e-324), Budget(tokens=10**300), Budget(usd=1e308, seconds=1e308)],
)
def test_a_budget_of_any_size_lets_a_run_end(bench: Bench, budget: Budget) -> None:
    standing = StandingBudgets(bench.pool)
    standing.put("all", "", budget)
    run = bench.submit(workflow("w", each(A), budget=budget), [1, 2])
    claims = [bench.claim(run, path) for path in ("0/0", "0/1")]

    for claimed in claims:
        spent = Done(usage=Usage(tokens=10, usd=0.5, model_calls=1))
        bench._record(bench.engine, replace(done(claimed), outcome=spent))

    assert bench.view(run).state is RunState.COMPLETED
    assert standing.all()[0].used >= 0
    assert told(bench, run) == (["exhausted"] * 2 if 5e-324 in (budget.usd, budget.seconds) else [])
