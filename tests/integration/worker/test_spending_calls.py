"""Calls of models under budgets: set aside before, counted after, refused when they cannot fit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from orchestrator.definitions.vocabulary import Part, child, each, fan_out, loop, workflow
from orchestrator.engine import Pointer
from orchestrator.standing_budgets import StandingBudgets
from orchestrator.store.schema import upgrade
from orchestrator.watching.costs import Costs
from orchestrator.watching.replay import Replay
from schemas import Budget, Gathered, Price, RunState, Usage
from schemas.events import EventKind
from tests.integration.worker.test_asking import Desk
from tests.support import Databases, eventually
from workers import Agent, AgentError, Context, Retry, agent, llm_agent
from workers.calls import Call
from workers.endings import Superseded
from workers.gates.budget import BudgetGate
from workers.gates.together import Together
from workers.guards.policy import Guard
from workers.scripted import Asked, Reply, Script, ScriptedProvider, call, refuse, text

PRICE = Price(input=10, output=100)
TOKENS = (100, 50)
"""What each answer takes, by its provider's count."""
PAID = Usage(tokens=150, usd=0.006, model_calls=1)


class Text(BaseModel):
    text: str


class Till(Desk):
    """A desk whose agents pass the gate of budgets."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.gate = BudgetGate(self.engine, self.send, self.hands.budgets, patience=20)
        self.runner._gates, self.runner._hold = (self.gate,), self.gate.hold
        self.standing = StandingBudgets(self.pool)
        self.costs = Costs(self.pool)

    def begin(self, body: Part | Agent, *agents: Agent, value: Any = None, **fields: Any) -> UUID:
        """A run of this body, with its first steps under way."""
        mine = (body, *agents) if isinstance(body, Agent) else agents
        self.agents |= {one.name: one for one in mine}
        budget = fields.pop("budget", None)
        given = {"text": "Go."} if value is None else value
        part = body.part if isinstance(body, Agent) else body
        return self.submit(workflow(fields.pop("name", "w"), part, budget=budget), given, **fields)

    def to_end(self, run: UUID) -> Any:
        def ended() -> None:
            self.work()
            self.end(run)

        eventually(ended)
        return self.end(run)

    def at_once(self, count: int) -> None:
        """Do so many of the steps that wait, all at the same time."""
        with ThreadPoolExecutor(count) as threads:
            taken = [self.engine.claim(Pointer(one.run.id, one.path)) for one in self.messages[:count]]
            self.messages = self.messages[count:]
            list(threads.map(self.attempt, taken))  # type: ignore[arg-type]

    def spent(self, run: UUID) -> Usage:
        """What the account of a run says."""
        rows = self.query("SELECT sum(tokens)::int, sum(usd)::float8, sum(model_calls)::int FROM spendings"
                          " WHERE run_id = %s", run)  # fmt: skip
        tokens, usd, calls = rows[0]
        return Usage(tokens=tokens or 0, usd=round(usd or 0.0, 9), model_calls=calls or 0)

    def set_aside(self) -> int:
        """How many reservations there are."""
        return int(self.query("SELECT count(*) FROM reservations")[0][0])


@pytest.fixture
def till(databases: Databases) -> Iterator[Till]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Till(url)
    yield made
    made.close()
    databases.drop(url)


def provided(script: Script) -> ScriptedProvider:
    return ScriptedProvider(script, price=PRICE)


def said(words: str = "Yes.") -> Reply:
    return Reply(output={"text": words}, tokens=TOKENS)


def writer(provider: ScriptedProvider, name: str = "writer", **options: Any) -> Agent:
    given: dict[str, Any] = {
        "model": "openai:scripted",
        "input": Text,
        "output": Text,
        "instructions": "Write.",
        "base_url": provider.base_url,
        "price": PRICE,
        "retry": Retry(max=0),
        "settings": {"max_tokens": 100},
    }
    return llm_agent(name, **(given | options))


def times(n: int, usage: Usage = PAID) -> Usage:
    return Usage(tokens=n * usage.tokens, usd=round(n * usage.usd, 9), model_calls=n * usage.model_calls)


# --- before and after a call ------------------------------------------------------------------------------


def test_a_process_that_was_stopped_with_leave_in_its_hands_asks_again(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = till.gate._keeper.reserve
    asked: list[int] = []

    def frozen(wishes: Any) -> Any:
        answers = reserve(wishes)
        asked.append(len(wishes))
        if len(asked) == 1:  # meanwhile its attempt was taken for dead, and goes on elsewhere
            till.engine.release(Pointer(run, "0"))
            threading.Event().wait(0.1)
        return answers

    monkeypatch.setattr("workers.gates.budget.STALE", 0.05)
    monkeypatch.setattr(till.gate, "_asking", Together(partial(till.hands.budgets.call, frozen)))
    with provided([said()]) as provider:
        one = writer(provider, "one")
        run = till.begin(one, one, budget=Budget(usd=1))
        (claimed,) = [till.engine.claim(Pointer(run, "0"))]
        with pytest.raises(Superseded):
            till.attempt(claimed)  # type: ignore[arg-type]

    assert asked == [1, 1]
    assert provider.log == []
    assert till.set_aside() == 0


def test_what_a_call_has_cost_counts_at_once_and_once(till: Till) -> None:
    # Given a run with a budget, looked at while its second call is made
    seen: list[Usage] = []

    def script(asked: Asked) -> Reply:
        seen.append(till.spent(run))
        return said(f"{asked.conversation}")

    with provided(script) as provider:
        one, two = writer(provider, "one"), writer(provider, "two")
        run = till.begin(one.part >> two, one, two, budget=Budget(usd=1))
        end = till.to_end(run)

    # Then the first counted by then, and the ends of the steps added nothing
    assert end.state == RunState.COMPLETED
    assert seen == [Usage(), PAID]
    assert till.spent(run) == times(2)
    assert till.view(run).totals.usage.usd == pytest.approx(0.012)
    assert till.set_aside() == 0


def test_what_an_agent_tells_by_itself_is_added_to_its_calls(till: Till) -> None:
    @agent
    async def both(ctx: Context, given: Text) -> Text:
        ctx.spend(tokens=7)
        ctx.account(Usage(tokens=5), counted=True)
        return given

    run = till.begin(both, both, budget=Budget(tokens=100))
    till.to_end(run)

    assert till.spent(run).tokens == 7
    assert till.view(run).totals.usage.tokens == 12


def test_a_call_that_cannot_fit_is_not_made(till: Till) -> None:
    with provided([said()]) as provider:
        one = writer(provider)
        run = till.begin(one, one, budget=Budget(usd=0.009))
        end = till.to_end(run)

    assert end.state == RunState.FAILED
    assert (end.error.type, provider.log) == ("BudgetExceeded", [])
    assert "openai:scripted was not called: it may consume 0.0" in end.error.message
    assert f"0.009 of 0.009 are left of the budget of run {run}; it never fits: " in end.error.message
    assert end.error.message.endswith("give the budget more, or it a smaller max_tokens in its settings")
    assert till.set_aside() == 0


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        (Budget(tokens=600), " tokens, and "),
        (Budget(model_calls=1), "is used up: 1 of 1 model calls"),
        (Budget(usd=0.02), " USD, and "),
    ],
)
def test_each_part_of_a_budget_is_one(till: Till, budget: Budget, why: str) -> None:
    # The most that a call can take: some 480 tokens, 0.014 USD, one call
    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        one, two = writer(provider, "one"), writer(provider, "two", settings={"max_tokens": 140})
        run = till.begin(one.part >> two, one, two, budget=budget)
        end = till.to_end(run)

    assert len(provider.log) == 1
    assert why in end.error.message
    assert till.states(run)["0"] == "done"


def test_work_has_a_budget_in_seconds(till: Till) -> None:
    @agent
    async def slow(given: Text) -> Text:
        await asyncio.sleep(0.05)
        return given

    run = till.begin(slow.part >> slow, slow, budget=Budget(seconds=0.04))
    end = till.to_end(run)

    assert (end.state, end.error.type) == (RunState.FAILED, "BudgetExceeded")
    assert end.error.message.endswith(" of 0.04 seconds")
    assert till.states(run) == {"0": "done", "1": "failed"}


def test_a_call_that_failed_costs_nothing_and_sets_nothing_aside(till: Till) -> None:
    with provided([[refuse(400), said()]]) as provider:
        one = writer(provider)
        run = till.begin(one, one, budget=Budget(usd=1))
        assert till.to_end(run).state == RunState.FAILED

    assert (till.spent(run), till.set_aside()) == (Usage(), 0)


@pytest.mark.parametrize("reply", [
    pytest.param(Reply(text="Yes.", delay=30), id="too slow"),
    pytest.param(Reply(text="Yes. No.", wrong="cut"), id="cut off"),
    pytest.param(Reply(text="Yes.", wrong="body"), id="not understood"),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_whose_end_nobody_saw_costs_what_it_was_told(till: Till, reply: Reply, stream: bool) -> None:
    # Given a provider that takes the request, and of whose answer nothing is known
    with provided([[reply, reply, reply, said()]]) as provider:
        patience = 0.3 if reply.delay else 30
        one = writer(provider, stream=stream, call_timeout=patience, retry=Retry(max=3, base=0.01))
        run = till.begin(one, one, budget=Budget(model_calls=3))
        end = till.to_end(run)

    # Then it counts, and what keeps failing so comes to an end
    assert (end.state, end.error.type) == (RunState.FAILED, "BudgetExceeded")
    spent = till.spent(run)
    assert (len(provider.log), spent.model_calls, till.set_aside()) == (3, 3, 0)
    assert spent.tokens > 3 * 20
    assert spent.usd == pytest.approx(spent.tokens * PRICE.input / 1e6)
    assert till.view(run).totals.usage == spent


def test_a_provider_that_is_not_there_costs_nothing(till: Till) -> None:
    with provided([]) as provider:
        one = writer(provider)
    run = till.begin(one, one, budget=Budget(model_calls=1))

    assert till.to_end(run).state == RunState.FAILED
    assert (till.spent(run), till.set_aside()) == (Usage(), 0)


def test_a_paid_answer_that_was_lost_on_its_way_has_cost_what_it_did(till: Till) -> None:
    class Breaks:
        @asynccontextmanager
        async def around(self, call: Call) -> AsyncIterator[None]:
            yield
            raise AgentError("the gate does not open again")

    till.runner._gates = (till.gate, Breaks())
    with provided([said()]) as provider:
        one = writer(provider)
        run = till.begin(one, one, budget=Budget(usd=1))
        assert till.to_end(run).state == RunState.FAILED

    assert (till.spent(run), till.set_aside()) == (PAID, 0)
    assert till.view(run).totals.usage == PAID


def test_an_answer_that_says_too_much_counts_whole_and_no_other_follows(till: Till) -> None:
    # Given a provider that does not keep to max_tokens
    with provided([Reply(output={"text": "?"}, tokens=(100, 5_000)), said()]) as provider:
        one, two = writer(provider, "one"), writer(provider, "two")
        run = till.begin(one.part >> two, one, two, budget=Budget(tokens=1_000))
        end = till.to_end(run)

    assert len(provider.log) == 1
    assert end.error.message == f"the budget of run {run} is used up: 5,100 of 1,000 tokens"


def test_what_runs_below_consume_is_kept_from_the_budget_above(till: Till) -> None:
    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        one = writer(provider)
        inner = workflow("inner", one.part)
        body = child(inner) >> child(inner)
        run = till.begin(body, one, budget=Budget(usd=0.016))
        end = till.to_end(run)

    assert len(provider.log) == 1
    assert f"the budget of run {run}" in end.error.message
    assert till.spent(run) == PAID


# --- at the same time -------------------------------------------------------------------------------------


def test_branches_at_the_same_time_wait_for_each_other_and_exceed_nothing(till: Till) -> None:
    # Given a budget for the worst case of two calls, and what eight really take fits
    least = []

    def script(asked: Asked) -> Reply:
        least.append(till.set_aside())
        return said(f"{asked.conversation}")

    with provided(script) as provider:
        one = writer(provider)
        run = till.begin(each(one), one, value=[{"text": str(n)} for n in range(8)], budget=Budget(usd=0.06))
        till.at_once(8)

        # Then they were made a few at a time, and none was refused
        assert len(provider.log) == 8
        assert max(least) <= 4
        assert till.spent(run) == times(8)
        assert till.to_end(run).state == RunState.COMPLETED


def test_what_does_not_fit_when_the_others_have_ended_is_refused(till: Till) -> None:
    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        one = writer(provider)
        body = each(one, require=1)
        run = till.begin(body, one, value=[{"text": str(n)} for n in range(8)], budget=Budget(usd=0.027))
        till.at_once(8)
        end = till.to_end(run)

    made = len(provider.log)
    assert 2 <= made <= 3
    assert till.spent(run) == times(made)
    # And the fan-out ends with gaps
    assert (end.state, till.view(run).degraded) == (RunState.COMPLETED, True)


@pytest.mark.parametrize("ending", ["well", "badly"])
def test_who_waits_too_long_waits_in_postgres_until_a_call_has_ended(
    till: Till, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    # Given a call that does not end, and others that fit only when it has ended
    monkeypatch.setattr("workers.gates.budget.LATER", 600.0)
    till.gate._patience = 0.0
    inside, go_on = threading.Event(), threading.Event()

    def script(asked: Asked) -> Reply:
        inside.set()
        assert go_on.wait(20)
        return said() if ending == "well" or len(provider.log) > 1 else refuse(400)

    with provided(script) as provider:
        one = writer(provider)
        body = each(one, require=1)
        run = till.begin(body, one, value=[{"text": name} for name in "abc"], budget=Budget(usd=0.027))
        first, *others = [till.engine.claim(Pointer(run, f"0/{n}")) for n in range(3)]
        till.messages = []
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(till.attempt, first)  # type: ignore[arg-type]
            assert inside.wait(10)
            for other in others:
                till.attempt(other)  # type: ignore[arg-type]
            assert till.messages == []
            go_on.set()
            done.result(10)

        # Then the next one asks at once, in its turn, and so on
        assert [one.path for one in till.messages] == ["0/1"]
        assert till.to_end(run).state == RunState.COMPLETED

    told = [event.data["limit"] for event in till.events(run) if event.kind is EventKind.STEP_LIMITED]
    assert told == [f"budget of run {run}"] * 2
    assert till.query("SELECT attempt, retries FROM steps WHERE path IN ('0/1', '0/2')") == [(2, 0)] * 2


def test_what_a_killed_holder_has_set_aside_is_free_again(till: Till) -> None:
    # Given a call in flight whose worker is gone
    with provided([said()]) as provider:
        one = writer(provider)
        run = till.begin(one, one, budget=Budget(usd=0.02))
        lost = till.claim(run, "0")
        till.query(
            "INSERT INTO reservations (id, account, run_id, path, attempt, tokens, usd, model_calls)"
            " VALUES (gen_random_uuid(), 'run:' || %s::text, %s, '0', 1, 200, 0.011, 1)", run, run,
        )  # fmt: skip
        till.messages += till.engine.release(Pointer(run, "0"), lost.attempt)

        # Then the next attempt has the whole budget
        assert till.to_end(run).state == RunState.COMPLETED
    assert (till.spent(run), till.set_aside()) == (PAID, 0)


def test_a_call_that_was_settled_twice_counts_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = till.engine.settle_calls

    def twice(paid: Any) -> None:
        settle(paid)
        settle(paid)

    monkeypatch.setattr(till.engine, "settle_calls", twice)
    with provided([said()]) as provider:
        one = writer(provider)
        run = till.begin(one, one, budget=Budget(usd=1))
        till.to_end(run)

    assert till.spent(run) == PAID
    assert sum(cost.usd for cost in till.costs.by("agent")) == pytest.approx(PAID.usd)


def test_an_attempt_that_died_after_its_call_has_paid_for_it(till: Till) -> None:
    # Given an attempt whose call is in the journal, and which then dies
    with provided([said()]) as provider:
        one = writer(provider)
        run = till.begin(one, one, budget=Budget(usd=1))
        lost = till.claim(run, "0")
        till.runner.run(one, lost)
        till.messages += till.engine.release(Pointer(run, "0"), lost.attempt)

        # When another one goes on
        assert till.to_end(run).state == RunState.COMPLETED

    # Then the call was made once, counts once, and is told
    assert len(provider.log) == 1
    assert till.spent(run) == PAID
    assert till.view(run).totals.usage == PAID


def test_a_judge_that_is_a_model_inside_of_a_call_counts_once(till: Till) -> None:
    def look(page: str) -> str:
        return page

    verdict = Reply(output=0.0, tokens=TOKENS)
    with provided([verdict]) as court, provided([call("look", page="x"), said()]) as provider:
        judge = writer(court, "judge", input=str, output=float)
        one = writer(provider, tools=[look], guard=Guard(injection=judge))
        run = till.begin(one, one, budget=Budget(usd=1))
        assert till.to_end(run).state == RunState.COMPLETED

    used = till.view(run).totals.usage
    assert (len(court.log), len(provider.log), used.model_calls) == (1, 2, 3)
    assert till.spent(run) == Usage(tokens=used.tokens, usd=round(used.usd, 9), model_calls=3)


# --- what patterns make of it -----------------------------------------------------------------------------


def test_a_loop_over_budget_ends_with_its_best_round(till: Till) -> None:
    with provided(lambda asked: said(f"round {asked.conversation}")) as provider:
        one = writer(provider)
        run = till.begin(loop(one, max_rounds=9), one, budget=Budget(usd=0.027))
        end = till.to_end(run)

    assert 2 <= len(provider.log) <= 3
    assert end.state == RunState.COMPLETED
    assert end.output["text"].startswith("round")
    assert till.view(run).degraded


def test_a_join_hears_what_budgets_refused(till: Till) -> None:
    @agent
    async def gather(found: Gathered[Text]) -> Text:
        return Text(text=f"{len(found.results)} and {found.gaps[0].reason}")

    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        cheap, dear = writer(provider, "cheap"), writer(provider, "dear", settings={"max_tokens": 900})
        body = fan_out(cheap, dear, join=gather, require=1)
        run = till.begin(body, cheap, dear, gather, budget=Budget(usd=0.05))
        end = till.to_end(run)

    assert end.output["text"].startswith("1 and openai:scripted was not called")
    assert till.view(run).degraded


# --- of tenants, agents and days --------------------------------------------------------------------------


def test_a_tenant_has_a_budget_for_a_day(till: Till) -> None:
    till.standing.put("tenant", "acme", Budget(usd=0.018), per="day")
    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        one = writer(provider)
        runs = [till.begin(one, one, tenant=tenant) for tenant in ("acme", "acme", "other")]
        ends = [till.to_end(run) for run in runs]

    assert [end.state for end in ends] == [RunState.COMPLETED, RunState.FAILED, RunState.COMPLETED]
    assert (
        "0.012 of 0.018 are left of the budget of tenant acme per day; it opens again at 2"
        in ends[1].error.message
    )
    (one_budget,) = till.standing.all()
    assert (one_budget.spent.usd, one_budget.reserved.usd, one_budget.used) == (
        0.006,
        0.0,
        pytest.approx(1 / 3),
    )
    assert (one_budget.closes_at - one_budget.opens_at).total_seconds() == 86_400


def test_a_window_rolls_by_itself(till: Till) -> None:
    till.standing.put("all", "", Budget(model_calls=1), per="hour")
    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        one = writer(provider)
        assert till.to_end(till.begin(one, one)).state == RunState.COMPLETED
        assert till.to_end(till.begin(one, one)).state == RunState.FAILED

        # When the hour is over
        till.query("UPDATE budget_windows SET opens_at = opens_at - interval '1 hour'")

        assert till.to_end(till.begin(one, one)).state == RunState.COMPLETED


def test_the_code_of_an_agent_says_what_it_may_consume_and_an_operator_overrules_it(till: Till) -> None:
    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        one = writer(provider, budget=Budget(model_calls=1))
        assert till.to_end(till.begin(one, one)).state == RunState.COMPLETED
        refused = till.to_end(till.begin(one, one))
        assert "the budget of agent writer per day" in refused.error.message

        till.standing.put("agent", "writer", Budget(model_calls=2), per="day")
        till.gate._declared.clear()

        assert till.to_end(till.begin(one, one)).state == RunState.COMPLETED
    assert [(one.origin, one.budget) for one in till.standing.all()] == [("operator", Budget(model_calls=2))]


def test_what_plain_agents_tell_counts_in_the_windows_of_others(till: Till) -> None:
    @agent
    async def plain(ctx: Context, given: Text) -> Text:
        ctx.spend(usd=0.25)
        return given

    till.standing.put("tenant", "acme", Budget(usd=1, seconds=60), per="day")
    till.to_end(till.begin(plain, plain, tenant="acme"))

    (found,) = till.standing.all()
    assert found.spent.usd == 0.25
    assert 0 < found.seconds < 5


# --- warnings ---------------------------------------------------------------------------------------------


def warnings(till: Till, run: UUID) -> list[dict[str, Any]]:
    return [event.data for event in till.events(run) if event.kind is EventKind.RUN_BUDGET_WARNING]


def test_four_fifths_are_warned_of_once(till: Till) -> None:
    till.standing.put("tenant", "acme", Budget(model_calls=5), per="day")
    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        one = writer(provider)
        body = loop(one, max_rounds=5)
        run = till.begin(body, one, budget=Budget(model_calls=6), tenant="acme")
        till.to_end(run)
        other = till.begin(one, one, tenant="acme")
        till.to_end(other)

    told = {one["budget"]: one["used"] for one in warnings(till, run)}
    assert told == {"day:tenant:acme": 0.8, f"run:{run}": pytest.approx(5 / 6, abs=1e-4)}
    assert warnings(till, other) == []
    # And a replay of its events goes by
    assert Replay(till.plan(run), till.events(run)).state == RunState.COMPLETED


def test_what_agents_tell_at_the_end_of_a_step_is_warned_of_too(till: Till) -> None:
    @agent
    async def plain(ctx: Context, given: Text) -> Text:
        ctx.spend(tokens=85)
        return given

    @agent
    async def after(given: Text) -> Text:
        return given

    run = till.begin(plain.part >> after, plain, after, budget=Budget(tokens=100))
    till.to_end(run)

    assert [one["used"] for one in warnings(till, run)] == [0.85]


# --- what was paid for what -------------------------------------------------------------------------------


def test_costs_are_told_by_workflow_agent_model_tenant_and_user(till: Till) -> None:
    @agent
    async def plain(ctx: Context, given: Text) -> Text:
        ctx.spend(usd=0.5, tokens=10)
        return given

    with provided(lambda asked: said(f"{asked.conversation}")) as provider:
        one = writer(provider)
        till.to_end(till.begin(one.part >> one, one, name="a", labels={"user": "ann"}))
        till.to_end(till.begin(one.part >> plain, one, plain, name="b", tenant="acme"))

    def told(by: str) -> dict[str, float]:
        return {cost.key: round(cost.usd, 6) for cost in till.costs.by(by)}  # type: ignore[arg-type]

    assert told("workflow") == {"b": 0.506, "a": 0.012}
    assert told("agent") == {"plain": 0.5, "writer": 0.018}
    assert told("model") == {"": 0.5, "openai:scripted": 0.018}
    assert told("tenant") == {"acme": 0.506, "default": 0.012}
    assert told("user") == {"": 0.506, "ann": 0.012}
    (model,) = [cost for cost in till.costs.by("model") if cost.key]
    assert (model.input_tokens, model.output_tokens, model.model_calls) == (300, 150, 3)
    till.query("UPDATE costs SET at = at - interval '2 days' WHERE model = ''")
    assert [cost.key for cost in till.costs.by("agent", since=86_400)] == ["writer"]


def test_a_run_without_any_budget_sets_nothing_aside(till: Till) -> None:
    with provided([text("Yes.")]) as provider:
        one = writer(provider, output=str)
        till.to_end(till.begin(one, one))

    for table in ("reservations", "spendings", "budget_windows", "budget_warnings"):
        assert till.query(f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608  written above
    assert till.query("SELECT count(*) FROM costs") == [(1,)]
