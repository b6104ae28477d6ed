"""The rules can fail: each notices a forged history, and code that is broken on purpose is found out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from orchestrator.engine import Claimed, Pointer, Ready, reserving
from orchestrator.engine.journals import Journals
from orchestrator.engine.settling import Paid, Settling
from orchestrator.standing_budgets import StandingBudgets
from orchestrator.store import call_limit_queries, settling_queries
from orchestrator.store.schema import upgrade
from schemas import Budget
from tests.agents.buying import book, buyer_at, buying
from tests.chaos import ledger
from tests.chaos.broken import _changed
from tests.chaos.checker import Verdict
from tests.chaos.ledger import Ledger
from tests.chaos.paid.facts import MODEL, Entry, Facts, gather
from tests.chaos.paid.rules import RULES, check
from tests.chaos.paid.shop import Shop
from tests.integration.worker.test_asking import Desk
from tests.support import Databases
from workers.calls import Call
from workers.context import Context
from workers.endings import Superseded
from workers.gates.budget import BudgetGate
from workers.gates.limits import LimitGate
from workers.journal import Journal
from workers.tools.effects import Effects

NODE = "worker-0"
POOR = 0.02
"""Dollars: enough for one call and what is set aside for it."""


class Cut:
    """What these calls have done in their first attempt is not kept: it ends before."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._names = names

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        yield
        if call.attempt == 1 and call.name in self._names:
            raise ConnectionError("cut off")


class Death:
    """The worker of each of these calls dies in the middle of its first attempt: nobody tells how it ended."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        yield
        if call.attempt == 1 and call.kind == "model":
            self._counter.dead.add((call.run_id, call.attempt))
            freed = await asyncio.to_thread(self._counter.engine.release, Pointer(call.run_id, call.path))
            self._counter.messages += freed
            raise Superseded


class Counter(Desk):
    """A desk at which several orders are taken at the same time."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.dead: set[tuple[UUID, int]] = set()
        """Attempts of workers that are dead, and tell nothing."""

    def buy(
        self, tenants: Sequence[str], cut: Sequence[str] = (), slowest: float = 0.03, *, killed: bool = False
    ) -> Facts:
        """An order of each of these tenants, all at once; what is known when nothing is left to do."""
        shop = Shop(slowest=slowest)
        gate = BudgetGate(self, self.send, self.hands.budgets)
        self.runner._gates = (
            Cut(cut),
            gate,
            LimitGate(self.engine, self.send, self.hands.limits),
            *([Death(self)] if killed else []),
        )
        with shop.provider as provider:
            self.agents = {"buyer": buyer_at(provider.base_url), "book": book}
            for number, tenant in enumerate(tenants, 1):
                self.submit(buying, {"number": number}, tenant=tenant)
            self.work()
        facts = gather(self.query, shop.requests, self.visits())
        facts.workers, facts.expected = {NODE: self.engine.me.id}, len(tenants)
        return facts

    def attempt(self, claimed: Claimed) -> None:
        with suppress(Superseded):
            super().attempt(claimed)

    def settle_calls(self, paid: Sequence[Paid]) -> list[Ready]:
        return self.engine.settle_calls([one for one in paid if (one.run_id, one.attempt) not in self.dead])

    def __getattr__(self, name: str) -> Any:
        """The other verbs of whoever keeps the books."""
        return getattr(self.engine, name)

    def work(self) -> None:
        with ThreadPoolExecutor(12) as hands:
            while self._left():
                taken = [self.engine.claim(Pointer(one.run.id, one.path)) for one in self.messages]
                self.messages.clear()
                list(hands.map(self.attempt, [one for one in taken if isinstance(one, Claimed)]))

    def _left(self) -> bool:
        if not self.messages:
            self.query("UPDATE steps SET due_at = now() WHERE state = 'ready' AND due_at IS NOT NULL")
            self.fire()
        return bool(self.messages)

    visits: Callable[[], Any]


@pytest.fixture
def counter(databases: Databases, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    yield from opened(databases, broker, monkeypatch)


def opened(databases: Databases, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    monkeypatch.setenv(ledger.NODE, NODE)
    outside = Redis.from_url(broker)
    monkeypatch.setattr(ledger, "_client", lambda: outside)
    url = databases.create(databases.template("migrated", upgrade))
    made = Counter(url)
    StandingBudgets(made.pool).put("tenant", "poor", Budget(usd=POOR), per="month")
    StandingBudgets(made.pool).put("tenant", "rich", Budget(usd=100), per="month")
    read = Ledger(broker)
    made.visits = read.visits
    yield made
    read.close()
    outside.close()
    made.close()
    databases.drop(url)


def found(verdict: Verdict, *rules: str) -> None:
    """These rules have noticed it."""
    assert set(rules) <= verdict.broken, str(verdict)


# --- broken code ----------------------------------------------------------------------------------------------------

MANY = ("rich",) * 8


def test_work_that_is_cut_off_is_sound_and_goes_on_from_what_was_kept(counter: Counter) -> None:
    facts = counter.buy(["rich", "rich", "poor"], cut=["pay", "openai:scripted"])

    assert not check(facts).broken, str(check(facts))
    states = [run.state for run in facts.runs.values()]
    assert (states.count("completed"), states.count("failed")) == (2, 1)
    # The first answer of each order was not kept, and after that one is poor.
    assert len(facts.answered) - len(facts.answers) == 3
    assert {entry.attempt for entry in facts.answers.values()} == {2}


def test_calls_of_the_dead_are_sound(counter: Counter) -> None:
    facts = counter.buy(["rich", "rich", "poor"], killed=True)

    assert not check(facts).broken, str(check(facts))
    assert [cost.lost for cost in facts.costs].count("unheard") == 3


def test_calls_of_the_dead_that_nobody_books_are_noticed(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {"FROM gone WHERE": "FROM gone WHERE false AND"}
    monkeypatch.setattr(
        settling_queries, "LAPSE_ATTEMPTS", _changed(settling_queries.LAPSE_ATTEMPTS, changed)
    )

    found(check(counter.buy(["rich"], killed=True)), "each_request_is_in_the_books")


def test_a_journal_that_is_not_read_is_noticed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "recall", lambda self, position, name: None)

    verdict = check(counter.buy(["rich"], cut=["pay"]))

    found(verdict, "no_answer_is_asked_for_again", "no_finished_tool_call_is_made_again")


def test_an_effect_without_its_fence_is_noticed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unfenced(self: Effects, key: str, act: Callable[[], Any]) -> Any:
        return await act()

    monkeypatch.setattr(Effects, "awaited", unfenced)

    found(check(counter.buy(["rich"], cut=["pay"])), "what_must_not_be_repeated_is_not")


def test_limits_that_nobody_keeps_are_noticed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    async def passes(self: LimitGate, call: object) -> None:
        return None

    monkeypatch.setattr(LimitGate, "_pass", passes)

    found(check(counter.buy(MANY, slowest=0.3)), "no_concurrency_is_exceeded")


def test_a_place_that_is_given_back_twice_is_noticed(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = "p.run_id = g.run_id AND p.path = g.path AND p.attempt = g.attempt AND p.place = g.place"
    monkeypatch.setattr(
        call_limit_queries, "GIVE_BACK", _changed(call_limit_queries.GIVE_BACK, {mine: "p.path = g.path"})
    )

    found(check(counter.buy(MANY, slowest=0.3)), "no_concurrency_is_exceeded")


def test_a_place_that_is_never_given_back_is_noticed(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LimitGate, "_given_back", lambda self, calls: [None] * len(calls))

    found(check(counter.buy(["rich"])), "every_place_is_given_back")


def test_calls_for_which_nothing_is_set_aside_are_noticed(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserving, "_answer", lambda wish, books: reserving.Granted())

    found(check(counter.buy(["poor"] * 4)), "no_budget_is_exceeded")


def test_what_is_set_aside_for_ever_is_noticed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"DELETE FROM reservations WHERE": "DELETE FROM reservations WHERE false AND"}
    monkeypatch.setattr(settling_queries, "SETTLE", _changed(settling_queries.SETTLE, changed))

    found(check(counter.buy(["rich"])), "every_place_is_given_back")


def test_calls_that_nobody_counts_are_noticed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settling, "settle_calls", lambda self, paid: None)

    found(check(counter.buy(["rich"])), "each_answer_is_paid_once")


def test_calls_that_are_counted_twice_are_noticed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    account = Context.account
    monkeypatch.setattr(
        Context, "account", lambda self, usage, *, counted: account(self, usage, counted=False)
    )

    found(check(counter.buy(["rich"])), "what_nobody_saw_was_cut_off")


def test_what_is_told_twice_is_noticed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Journals.read_journal

    def forgetful(self: Journals, claimed: Claimed) -> Any:
        return {place: entry._replace(told=False) for place, entry in read(self, claimed).items()}

    monkeypatch.setattr(Journals, "read_journal", forgetful)

    found(check(counter.buy(["rich"], cut=["pay"])), "each_run_tells_what_it_kept")


# --- forged histories -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def history(databases: Databases, redis_url: str) -> Iterator[Facts]:
    """A sound one, of real work."""
    with pytest.MonkeyPatch.context() as patch:
        Redis.from_url(redis_url).flushall()
        for counter in opened(databases, redis_url, patch):
            yield counter.buy(["rich", "rich", "poor"], cut=["pay"])


def a_run(facts: Facts, **fields: Any) -> None:
    id = next(id for id, run in facts.runs.items() if run.state == "completed")
    facts.runs[id] = facts.runs[id]._replace(**fields)


def not_ended(facts: Facts) -> None:
    a_run(facts, state="running")


def not_there(facts: Facts) -> None:
    facts.expected += 1


def another_output(facts: Facts) -> None:
    a_run(facts, output={"number": 1, "found": 5, "paid": "paid", "asked": 0})


def refused(facts: Facts) -> None:
    a_run(facts, state="failed", error="no reason")


def refused_too_early(facts: Facts) -> None:
    facts.windows["poor"] = -1.0


def unclear(facts: Facts) -> None:
    id = next(id for id, run in facts.runs.items() if run.state == "completed")
    facts.runs[id] = facts.runs[id]._replace(output=facts.runs[id].output | {"paid": "unclear"})
    facts.attempts[id, MODEL] = [one._replace(state="done") for one in facts.attempts[id, MODEL]]


def by_nobody(facts: Facts) -> None:
    facts.visits = [*facts.visits, facts.visits[0]._replace(at=0.0)]


def asked_again(facts: Facts) -> None:
    last = max(facts.requests, key=lambda one: one.at)
    facts.requests = [*facts.requests, last._replace(asked=last.asked + 1, at=last.until + 60)]


def made_again(facts: Facts) -> None:
    last = max((one for one in facts.visits if one.tool == "look_up"), key=lambda one: one.at)
    facts.visits = [*facts.visits, last]


def kept_by_nobody(facts: Facts) -> None:
    booked = next(one for one in facts.journal if one.name == "once book")
    facts.journal = [one for one in facts.journal if one is not booked]


def from_nowhere(facts: Facts) -> None:
    facts.journal = [_asked(one, 99) if one.name == "model" else one for one in facts.journal]


def _asked(entry: Entry, number: int) -> Entry:
    return entry._replace(value={"response": f'"asked": {number}'})


def paid_again(facts: Facts) -> None:
    payment = next(one for one in facts.visits if one.tool == "pay")
    facts.visits = [*facts.visits, payment]


def too_many_at_a_time(facts: Facts) -> None:
    one = next(one for one in facts.visits if one.tool == "look_up")
    facts.visits = [*facts.visits, *[one] * 3]


def too_many_in_a_while(facts: Facts) -> None:
    one = next(one for one in facts.visits if one.tool == "look_up")
    facts.visits = [*facts.visits, *[one._replace(left=one.at)] * 60]


def kept_a_place(facts: Facts) -> None:
    step, tries = next(iter(facts.attempts.items()))
    facts.permits = [type("Held", (), {"step": step, "attempt": tries[-1].attempt})()]


def too_much(facts: Facts) -> None:
    facts.windows["poor"] = POOR * 2


def not_counted(facts: Facts) -> None:
    facts.costs = facts.costs[1:]


def in_no_book(facts: Facts) -> None:
    facts.costs = facts.costs[:-1]


def counted_for_nothing(facts: Facts) -> None:
    facts.costs = [*facts.costs, facts.costs[0]._replace(attempt=9)]


def another_price(facts: Facts) -> None:
    facts.costs = [facts.costs[0]._replace(usd=1.0), *facts.costs[1:]]


def unseen(facts: Facts) -> None:
    kept = next(iter(facts.answers.values()))
    one = next(one for one in facts.costs if (one.step, one.attempt) == (kept.step, kept.attempt))
    facts.attempts[kept.step] = [each._replace(state="done") for each in facts.attempts[kept.step]]
    facts.costs = [*facts.costs, one._replace(output_tokens=0)]


def not_in_the_budget(facts: Facts) -> None:
    facts.windows["rich"] /= 2


def untold(facts: Facts) -> None:
    facts.told.clear()


FORGERIES: dict[Callable[[Facts], None], str] = {
    not_ended: "every_run_has_ended",
    not_there: "every_run_has_ended",
    another_output: "every_output_follows_from_its_input",
    refused: "nobody_is_refused_without_reason",
    refused_too_early: "nobody_is_refused_without_reason",
    unclear: "a_payment_is_unclear_only_if_it_was_cut_off",
    by_nobody: "each_deed_is_of_an_attempt",
    asked_again: "no_answer_is_asked_for_again",
    made_again: "no_finished_tool_call_is_made_again",
    kept_by_nobody: "no_finished_tool_call_is_made_again",
    from_nowhere: "each_answer_was_given_by_the_provider",
    paid_again: "what_must_not_be_repeated_is_not",
    too_many_at_a_time: "no_concurrency_is_exceeded",
    too_many_in_a_while: "no_rate_is_exceeded",
    kept_a_place: "every_place_is_given_back",
    too_much: "no_budget_is_exceeded",
    not_counted: "each_answer_is_paid_once",
    in_no_book: "each_request_is_in_the_books",
    counted_for_nothing: "each_answer_is_paid_once",
    another_price: "each_answer_is_paid_once",
    unseen: "what_nobody_saw_was_cut_off",
    not_in_the_budget: "each_budget_counts_what_was_paid",
    untold: "each_run_tells_what_it_kept",
}


def test_a_sound_history_passes(history: Facts) -> None:
    assert not check(history).broken, str(check(history))


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_history_is_noticed_by_its_rule(history: Facts, forge: Callable[[Facts], None]) -> None:
    forged = deepcopy(replace(history))
    forge(forged)

    assert FORGERIES[forge] in check(forged).broken


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule.__name__ for rule in RULES} == set(FORGERIES.values())
