"""Budgets of runs, tenants, agents and days, and agents that tell by themselves what they have consumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import each, fan_out, loop
from orchestrator.engine import Onward
from schemas import Bounds, Budget, Gathered, RunState, Usage
from schemas.errors import DefinitionError
from schemas.events import EventKind
from schemas.outcomes import Done
from tests.integration.engine.bench import EVERY_AGENT, done
from tests.integration.worker.test_spending_calls import Text, Till
from tests.integration.worker.test_spending_calls import till as till
from workers import Agent, Batch, Context, Retry, agent, llm_agent
from workers.adapters import langgraph

TENANT = Budget(tokens=100)


def spender(name: str = "spender", tokens: int = 60, **options: Any) -> Agent:
    """It consumes so much, and says so."""

    @agent(name=name, retry=Retry(max=0), **options)
    async def spends(ctx: Context, given: Text) -> Text:
        ctx.spend(tokens=tokens)
        return Text(text=f"{given.text}.")

    return spends


@agent(name="free")
def free(given: Text) -> Text:
    return given


@agent(name="summary")
def summary(found: Gathered[Text]) -> list[str]:
    return [one.text for one in found.results]


def counted(till: Till, table: str = "budget_windows") -> int:
    ((tokens,),) = till.query(f"SELECT coalesce(sum(tokens), 0)::int FROM {table}")  # noqa: S608  named below
    return int(tokens)


OWNERS = pytest.mark.parametrize("own", [True, False], ids=["the run's", "the tenant's"])
"""Whose budget it is makes no difference."""


def limited(till: Till, own: bool, budget: Budget = TENANT) -> dict[str, Any]:
    """A budget of the run that begins with these, or of its tenant."""
    if own:
        return {"budget": budget}
    till.standing.put("tenant", "default", budget)
    return {}


def exhausted(till: Till, run: UUID) -> list[str]:
    told = [one.data for one in till.events(run) if one.kind is EventKind.RUN_BUDGET_EXHAUSTED]
    return [one["message"] for one in told]


def test_what_is_beyond_a_budget_is_counted_and_nothing_that_consumes_is_begun(till: Till) -> None:
    till.standing.put("tenant", "default", TENANT)
    one = spender(tokens=150)

    first = till.to_end(till.begin(one))
    second = till.to_end(till.begin(one))
    other = till.to_end(till.begin(one, tenant="other"))

    assert first.state is other.state is RunState.COMPLETED
    assert second.state is RunState.FAILED
    assert second.error is not None
    assert second.error.type == "BudgetExceeded"
    assert second.error.message.startswith(
        "the budget of tenant default per day is used up: 150 of 100 tokens; it opens again at "
    )
    assert counted(till) == 150


@pytest.mark.parametrize("tokens", [99, 100])
def test_a_budget_is_used_up_when_all_of_it_is(till: Till, tokens: int) -> None:
    till.standing.put("all", "", TENANT, per="month")
    one = spender(tokens=tokens)

    till.to_end(till.begin(one))

    assert (till.to_end(till.begin(one)).state is RunState.FAILED) is (tokens == 100)


@OWNERS
def test_a_loop_ends_with_the_best_so_far(till: Till, own: bool) -> None:
    terms, one = limited(till, own), spender()

    run = till.begin(loop(one, max_rounds=5), one, value={"text": "x"}, **terms)

    assert till.to_end(run).output == {"text": "x.."}
    assert till.view(run).degraded
    assert counted(till, "spendings" if own else "budget_windows") == 120


@OWNERS
def test_a_round_of_several_steps_that_is_cut_off_leaves_the_one_before(till: Till, own: bool) -> None:
    terms, one, two = limited(till, own), spender(tokens=30), spender("two", tokens=30)

    run = till.begin(loop(one >> two, max_rounds=5), one, two, value={"text": "x"}, **terms)

    assert till.to_end(run).output == {"text": "x...."}
    assert till.view(run).degraded


@OWNERS
def test_a_fan_out_ends_with_gaps_which_its_join_may_look_into(till: Till, own: bool) -> None:
    terms, one = limited(till, own), spender()

    body = each(one, join=summary, require="any", parallel=1)
    run = till.begin(body, one, summary, value=[{"text": x} for x in "abcd"], **terms)

    assert till.to_end(run).output == ["a.", "b."]
    assert till.view(run).degraded
    (told,) = exhausted(till, run)
    assert "is used up: 120 of 100 tokens" in told


@OWNERS
def test_attempts_that_fail_use_it_up_and_what_stands_in_is_begun(till: Till, own: bool) -> None:
    terms = limited(till, own)

    @agent(name="weak", retry=Retry(max=9, base=0.001))
    async def weak(ctx: Context, given: Text) -> Text:
        ctx.spend(tokens=60)
        raise ConnectionError("once more")

    run = till.begin(weak.otherwise(free), weak, free, **terms)

    assert till.to_end(run).output == {"text": "Go."}
    assert counted(till, "spendings" if own else "budget_windows") == 120


def told_of(till: Till, run: UUID) -> list[tuple[str, str]]:
    """What the run was told of budgets: the kind of the event, and whose budget it is."""
    return [
        (event.kind, str(event.data["budget"]))
        for event in till.events(run)
        if event.kind.startswith("run.budget_")
    ]


@pytest.mark.parametrize("scope", ["tenant", "agent", "all"])
def test_who_uses_up_a_budget_with_its_last_step_is_told_before_its_end(till: Till, scope: Any) -> None:
    name = {"tenant": "default", "agent": "spender", "all": ""}[scope]
    till.standing.put(scope, name, Budget(tokens=150))
    mine = spender()
    runs = [till.begin(mine) for _ in range(3)]
    for run in runs:
        assert till.to_end(run).state is RunState.COMPLETED

    account = f"day:{scope}:{name}"
    assert [told_of(till, run) for run in runs] == [
        [],
        [("run.budget_warning", account)],
        [("run.budget_exhausted", account)],
    ]


def test_nobody_is_told_of_a_budget_that_is_anothers(till: Till) -> None:
    for tenant in ("acme", "other"):
        till.standing.put("tenant", tenant, TENANT)
    runs = [till.begin(spender(), tenant=tenant) for tenant in ("acme", "other")]
    claims = [till.claim(run, "0") for run in runs]

    till.engine.record_all(
        [replace(done(one, {"text": "a"}), outcome=Done(usage=Usage(tokens=100))) for one in claims]
    )

    assert [told_of(till, run) for run in runs] == [
        [("run.budget_exhausted", f"day:tenant:{tenant}")] for tenant in ("acme", "other")
    ]


@OWNERS
def test_steps_that_share_a_call_are_refused_each_by_itself(till: Till, own: bool) -> None:
    terms = limited(till, own)
    calls: list[list[str]] = []

    @agent(name="shared", batch=Batch(size=4, within=0.01), bounds=Bounds(tokens=1))
    async def shared(given: list[Text]) -> list[Text]:
        calls.append([one.text for one in given])
        return given

    one = spender(tokens=150)
    run = till.begin(one >> fan_out(a=shared, b=shared, require=0), one, shared, **terms)

    end = till.to_end(run)
    assert (end.state, end.output["a"], end.output["b"], calls) == (RunState.COMPLETED, None, None, [])
    assert till.view(run).degraded


@OWNERS
def test_an_answer_that_comes_later_is_gone_on_from(till: Till, own: bool) -> None:
    terms = limited(till, own)

    @agent(name="asking")
    async def asking(ctx: Context, given: Text) -> Text:
        ctx.spend(tokens=1)
        return Text(text=await ctx.ask_human("Go on?"))

    one = spender(tokens=150)
    run = till.begin(fan_out(a=asking, b=one), asking, one, **terms)
    till.work()
    till.answer(run, "Yes.")

    assert till.to_end(run).output["a"] == {"text": "Yes."}
    assert not till.view(run).degraded


def test_what_stands_in_for_a_refused_step_may_do_so_if_it_consumes_nothing(till: Till) -> None:
    till.standing.put("tenant", "default", Budget(tokens=60))
    one, dear = spender(), spender("dear", bounds=Bounds(tokens=60))
    till.to_end(till.begin(one))

    assert till.to_end(till.begin(one.otherwise(free), one, free)).output == {"text": "Go."}
    # What says that it consumes is not begun the first time either
    assert till.to_end(till.begin(one.otherwise(dear), one, dear)).state is RunState.FAILED
    assert counted(till) == 60


def test_a_budget_of_seconds_stops_all_that_takes_time(till: Till) -> None:
    till.standing.put("tenant", "default", Budget(seconds=1e-6))
    till.to_end(till.begin(free))

    assert till.to_end(till.begin(free)).state is RunState.FAILED


def test_a_stage_that_is_claimed_with_the_outcome_before_it_is_not_begun(till: Till) -> None:
    till.standing.put("tenant", "default", TENANT)
    one, dear = spender(), spender("dear", bounds=Bounds(tokens=60))
    run = till.begin(one >> dear, one, dear)
    claimed = till.claim(run, "0")
    finished = replace(done(claimed, {"text": "x"}), outcome=Done(usage=Usage(tokens=150)))

    recorded = till.engine.record(replace(finished, onward=Onward(claimed, EVERY_AGENT)))

    assert recorded.next is not None
    assert "150 of 100 tokens" in recorded.next.used_up
    till.attempt(recorded.next)
    assert till.end(run).state is RunState.FAILED
    assert counted(till) == 150


def test_an_attempt_goes_on_with_what_is_paid_although_the_budget_is_used_up(till: Till) -> None:
    till.standing.put("tenant", "default", TENANT)
    done_inside: list[str] = []

    @agent(name="careful")
    async def careful(ctx: Context, given: Text) -> Text:
        await ctx.once("dear", lambda: done_inside.append("dear"))
        if len(done_inside) == 1 and ctx.attempt == 1:
            ctx.spend(tokens=200)
            raise ConnectionError("once more")
        return given

    assert till.to_end(till.begin(careful)).output == {"text": "Go."}
    assert till.to_end(till.begin(careful)).state is RunState.FAILED
    assert done_inside == ["dear"]


@pytest.mark.parametrize("is_async", [True, False])
def test_an_agents_code_says_what_its_steps_may_consume_in_a_day(till: Till, is_async: bool) -> None:
    calls: list[str] = []

    def spends(ctx: Context, given: Text) -> Text:
        calls.append(given.text)
        ctx.spend(usd=0.5)
        return given

    async def spends_too(ctx: Context, given: Text) -> Text:
        return spends(ctx, given)

    one = agent(name="budgeted", budget=Budget(usd=1))(spends_too if is_async else spends)
    states = [till.to_end(till.begin(one)).state for _ in range(3)]

    assert states == [RunState.COMPLETED, RunState.COMPLETED, RunState.FAILED]
    assert len(calls) == 2
    (found,) = till.standing.all()
    assert (found.scope, found.name, found.per, found.origin) == ("agent", "budgeted", "day", "code")
    # An operator's word stands
    till.standing.put("agent", "budgeted", Budget(usd=2))
    assert till.to_end(till.begin(one)).state is RunState.COMPLETED


def test_a_budget_that_limits_nothing_is_none() -> None:
    with pytest.raises(DefinitionError, match="budget"):
        spender(budget=Budget())
    with pytest.raises(DefinitionError, match="budget"):
        llm_agent("writer", model="openai:x", input=Text, output=Text, instructions="Write.", budget=Budget())
    with pytest.raises(DefinitionError, match="budget"):
        langgraph("graph", object(), input=Text, output=Text, budget=Budget())


def test_a_claim_looks_for_no_budget_where_none_counts(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: Any) -> Any:
        raise AssertionError("budgets were looked for")

    till.standing.put("tenant", "other", TENANT)
    till.standing.put("agent", "other", TENANT, per="hour")
    monkeypatch.setattr("orchestrator.engine.claims.used_up", looked)
    one = spender()

    assert till.to_end(till.begin(fan_out(a=one, b=one), one)).state is RunState.COMPLETED


@pytest.mark.parametrize(("scope", "name"), [("tenant", "default"), ("agent", "spender"), ("all", "")])
@pytest.mark.parametrize("per", ["hour", "day", "month"])
def test_every_budget_that_counts_is_looked_for(till: Till, scope: Any, name: str, per: Any) -> None:
    till.standing.put(scope, name, Budget(tokens=60), per=per)
    one = spender()
    till.to_end(till.begin(one))

    assert till.to_end(till.begin(one)).state is RunState.FAILED


def test_many_that_tell_at_a_time_are_each_counted_and_none_follows(till: Till) -> None:
    till.standing.put("tenant", "default", TENANT)
    one = spender(tokens=30)
    run = till.begin(each(one, require=0), one, value=[{"text": str(n)} for n in range(24)])

    while till.messages:
        till.at_once(8)

    # Of eight at a time, those that began before it was used up
    till.to_end(run)
    outcomes = till.query("SELECT state FROM steps WHERE run_id = %s AND kind = 'agent'", run)
    assert counted(till) == 30 * sum(state == "done" for (state,) in outcomes)
    assert 120 <= counted(till) <= 90 + 8 * 30
