"""Agents that tell what they consume when they end: the most that they declare is set aside before they begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import each, fan_out
from orchestrator.engine import Claimed, Onward, Pointer
from orchestrator.engine.reserving import Wish
from schemas import Bounds, Budget, Gathered, RunState, Usage
from schemas.events import EventKind
from schemas.outcomes import Done
from tests.integration.engine.bench import EVERY_AGENT, done
from tests.integration.worker.test_spending_calls import Text, Till, provided, said, writer
from tests.integration.worker.test_spending_calls import till as till
from workers import Batch, Context, ContextBudget, Retry, Summarise, agent
from workers.calls import Call, Made
from workers.endings import SetAside

KINDS = ("async", "sync", "batch")
BRANCHES = 24


def teller(kind: str = "async", tokens: int = 25, bounds: Bounds | None = None, **options: Any) -> Any:
    """It consumes so much, and says so when it ends."""
    given: dict[str, Any] = {"name": "teller", "bounds": bounds or Bounds(tokens=30), "retry": Retry(max=0)}
    declare = partial(agent, **(given | options))

    def tells(ctx: Context, given: Text) -> Text:
        ctx.spend(tokens=tokens)
        return given

    async def awaits(ctx: Context, given: Text) -> Text:
        return tells(ctx, given)

    async def together(contexts: list[Context], given: list[Text]) -> list[Text]:
        return [tells(ctx, one) for ctx, one in zip(contexts, given, strict=True)]

    if kind == "batch":
        return declare(batch=Batch(size=8, within=0.01))(together)
    return declare()(awaits if kind == "async" else tells)


MOST = Usage(tokens=60)


def texts(count: int) -> list[dict[str, str]]:
    return [{"text": str(n)} for n in range(count)]


def ends(till: Till, run: UUID) -> list[tuple[str, str | None]]:
    """How the steps of its agents have ended."""
    return till.query(
        "SELECT state, error ->> 'type' FROM steps WHERE run_id = %s AND kind = 'agent' ORDER BY path", run
    )


def attempts(till: Till, state: str) -> int:
    return int(till.query("SELECT count(*) FROM attempts WHERE state = %s", state)[0][0])


def many(till: Till, run: UUID, at_a_time: int = 8) -> None:
    """Work with so many at the same time, to the end."""
    while till.messages or till.fire() or till._soon():
        till.at_once(min(at_a_time, len(till.messages)))
    till.to_end(run)


# --- within what is left ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("whose", "kind"),
    [*(("run", kind) for kind in KINDS), ("tenant", "async"), ("agent", "sync"), ("all", "batch")],
)
def test_branches_at_the_same_time_tell_no_more_than_a_budget_allows(
    till: Till, whose: str, kind: str
) -> None:
    # Given many branches, of which a few fit, and agents that consume less than they might
    budget = Budget(tokens=100)
    one = teller(kind)
    if whose != "run":
        name = {"tenant": "default", "agent": "teller", "all": ""}[whose]
        till.standing.put(whose, name, budget, per="hour")  # type: ignore[arg-type]
    fields = {"budget": budget} if whose == "run" else {}
    run = till.begin(each(one, require=0, parallel=BRANCHES), one, value=texts(BRANCHES), **fields)

    # When eight of them are under way at a time
    many(till, run)

    # Then three fit beside each other, and a fourth when those have told
    found = ends(till, run)
    assert found.count(("done", None)) == 3
    assert found.count(("failed", "BudgetExceeded")) == BRANCHES - 3
    assert till.query("SELECT sum(tokens)::int FROM costs") == [(75,)]
    assert till.set_aside() == 0
    assert attempts(till, "limited") > 0
    assert till.query("SELECT max(retries) FROM steps") == [(0,)]


def test_what_cannot_fit_is_not_begun_and_says_why(till: Till) -> None:
    begun: list[str] = []

    @agent(bounds=Bounds(usd=0.5), retry=Retry(max=3))
    async def dear(ctx: Context, given: Text) -> Text:
        begun.append(given.text)
        return given

    run = till.begin(dear, budget=Budget(usd=0.4))
    end = till.to_end(run)

    assert (end.state, end.error.type) == (RunState.FAILED, "BudgetExceeded")
    assert end.error.message == (
        f"dear was not begun: it may consume 0.5 USD, and 0.4 of 0.4 are left of the budget of run {run}"
        "; it never fits: give the budget more, or it smaller bounds"
    )
    assert begun == []
    assert till.query("SELECT attempt FROM steps") == [(1,)]


def test_who_waits_is_woken_by_the_end_of_who_holds(till: Till) -> None:
    one = teller(tokens=10, bounds=Bounds(tokens=60))
    run = till.begin(each(one), one, budget=Budget(tokens=100), value=texts(2))
    till.messages.clear()
    first, second = (claimed(till, run, path) for path in ("0/0", "0/1"))
    wish = Wish(UUID(int=1), run, "0/0", 1, "teller", "", Usage(tokens=60))
    till.engine.reserve([wish])

    # It holds no worker, and nothing of the budget
    till.attempt(second)
    assert till.messages == []
    (step,) = till.query("SELECT state, limited, retries, due_at > now() FROM steps WHERE path = '0/1'")
    assert step == ("ready", f"budget of run {run}", 0, True)
    assert till.set_aside() == 1

    recorded = till.engine.record(replace(done(first, {"text": "0"}), holds=True))

    assert [one.path for one in recorded.ready] == ["0/1"]
    till.messages += recorded.ready
    assert till.to_end(run).state is RunState.COMPLETED


def test_many_that_wait_ask_no_more_often_together_than_a_few(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an attempt that holds a budget, and more that wait for it than may ask as often as they like
    monkeypatch.setattr("workers.gates.budget.TOGETHER", 1)
    one = teller(tokens=10, bounds=Bounds(tokens=60))
    run = till.begin(each(one), one, budget=Budget(tokens=100), value=texts(5))
    till.engine.reserve(
        [Wish(UUID(int=1), run, "0/0", claimed(till, run, "0/0").attempt, "teller", "", MOST)]
    )

    for n in range(1, 5):
        till.attempt(claimed(till, run, f"0/{n}"))

    # Then each of them asks later than the one before, by what that one adds
    due = [
        at
        for (at,) in till.query("SELECT due_at FROM steps WHERE path BETWEEN '0/1' AND '0/4' ORDER BY path")
    ]
    assert all((later - sooner).total_seconds() > 4 for sooner, later in pairwise(due[1:]))


def test_of_an_attempt_that_is_lost_nothing_is_known_and_nothing_held(till: Till) -> None:
    one = teller(bounds=Bounds(tokens=60))
    run = till.begin(each(one), one, budget=Budget(tokens=100), value=texts(2))
    claims = [claimed(till, run, path) for path in ("0/0", "0/1")]
    till.engine.reserve([Wish(UUID(int=1), run, "0/0", 1, "teller", "", Usage(tokens=60))])
    till.attempt(claims[1])
    till.messages.clear()

    till.messages += till.engine.release(Pointer(run, "0/0"))

    assert sorted(one.path for one in till.messages) == ["0/0", "0/1"]
    assert till.set_aside() == 0
    assert till.query("SELECT count(*) FROM costs") == [(0,)]
    till.to_end(run)
    assert [state for state, _ in ends(till, run)] == ["done", "done"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_tells_more_than_it_declares_is_counted_in_full_and_named(till: Till, kind: str) -> None:
    one = teller(kind, tokens=70)

    run = till.begin(one, budget=Budget(tokens=100))
    till.to_end(run)

    assert till.spent(run).tokens == 70
    (told,) = [event.data for event in till.events(run) if event.kind is EventKind.STEP_WARNING]
    assert told["agent"] == "teller"
    assert told["message"] == (
        "teller has consumed 70 tokens, and declares 30 at most: more than budgets could set aside"
    )


def test_a_stage_that_is_claimed_with_the_outcome_before_it_sets_aside_too(till: Till) -> None:
    till.standing.put("tenant", "default", Budget(tokens=50))
    one, dear = teller(), teller(name="dear", bounds=Bounds(tokens=40))
    run = till.begin(one >> dear, one, dear)
    first = claimed(till, run, "0")
    finished = replace(done(first, {"text": "x"}), outcome=Done(usage=Usage(tokens=20)))

    recorded = till.engine.record(replace(finished, onward=Onward(first, EVERY_AGENT)))

    assert recorded.next is not None
    till.attempt(recorded.next)
    error = till.end(run).error
    assert error is not None
    assert error.message.startswith("dear was not begun: it may consume 40 tokens, and 30 of 50 are left")


# --- not twice --------------------------------------------------------------------------------------------


def wishes_of(till: Till, monkeypatch: pytest.MonkeyPatch) -> list[Wish]:
    """All that will be asked for."""
    asked: list[Wish] = []
    reserve = till.engine.reserve

    def noted(wishes: Sequence[Wish]) -> Any:
        asked.extend(wishes)
        return reserve(wishes)

    monkeypatch.setattr(till.gate._asking, "_ask", lambda wishes: till.hands.budgets.call(noted, wishes))
    return asked


def test_a_model_agent_sets_its_calls_aside_and_nothing_besides(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = wishes_of(till, monkeypatch)
    with provided([said()]) as provider:
        one = writer(provider, bounds=Bounds(model_calls=1, usd=0.03))
        till.to_end(till.begin(one, budget=Budget(usd=0.04)))

    assert [wish.name for wish in asked] == ["openai:scripted"]
    assert asked[0].least.model_calls == 1


def test_calls_in_an_attempt_are_in_what_is_set_aside_for_it(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = wishes_of(till, monkeypatch)

    @agent(bounds=Bounds(tokens=90, model_calls=1))
    async def embeds(ctx: Context, given: Text) -> Text:
        async def act() -> Made:
            return Made(None, Usage(tokens=20, model_calls=1))

        place = ctx.place()
        call = Call("model", "openai:x", "embeds", ctx.workflow, ctx.tenant, ctx.run_id, ctx.path, ctx.attempt,
                    place, f"{place}", worst=Usage(tokens=80, model_calls=1))  # fmt: skip
        made = await ctx.through(call, act)
        ctx.account(made.usage, counted=made.counted)
        return given

    run = till.begin(embeds, budget=Budget(tokens=100))

    assert till.to_end(run).state is RunState.COMPLETED
    assert [wish.name for wish in asked] == [""]
    assert till.spent(run) == Usage(tokens=20, model_calls=1)


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_summary_is_paid_for_before_the_attempt_sets_anything_aside(till: Till, kind: str) -> None:
    with provided([said("short")]) as provider:
        brief = writer(provider, "brief", output=str, input=str)
        one = teller(
            kind,
            bounds=Bounds(usd=0.1),
            context=ContextBudget(20, [Summarise("input.text", by=brief)]),
        )
        run = till.begin(one, brief, budget=Budget(usd=0.11), value={"text": "word " * 100})
        end = till.to_end(run)

    assert end.state is RunState.COMPLETED, end
    assert len(provider.log) == 1


def test_without_a_budget_nobody_is_asked(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    till.standing.put("tenant", "other", Budget(tokens=1))
    asked = wishes_of(till, monkeypatch)
    one, free = teller(), teller(name="free", bounds=Bounds(tokens=0))

    till.to_end(till.begin(fan_out(a=one, b=one), one))
    till.to_end(till.begin(free, budget=Budget(tokens=100)))

    assert asked == []


def test_a_question_sets_nothing_aside_while_it_waits(till: Till) -> None:
    @agent(bounds=Bounds(tokens=90))
    async def asks(ctx: Context, given: Text) -> Text:
        ctx.spend(tokens=40)
        return Text(text=await ctx.ask_human("Which?"))

    run = till.begin(asks, budget=Budget(tokens=200))
    till.work()

    assert till.set_aside() == 0
    assert till.spent(run).tokens == 40
    till.answer(run, "this")
    assert till.end(run).output == {"text": "this"}


def test_an_agent_that_catches_everything_waits_all_the_same(till: Till) -> None:
    @agent(name="summary", bounds=Bounds(tokens=60))
    async def summary(found: Gathered[Text]) -> Text:
        return Text(text=str(len(found.results)))

    one = teller(bounds=Bounds(tokens=60), tokens=20)
    run = till.begin(each(one, join=summary), one, summary, budget=Budget(tokens=100), value=texts(2))

    many(till, run)

    assert till.end(run).output == {"text": "2"}
    assert not issubclass(SetAside, Exception)


def claimed(till: Till, run: UUID, path: str) -> Claimed:
    found = till.engine.claim(Pointer(run, path))
    assert isinstance(found, Claimed)
    return found
