"""Calls whose worker was taken for dead in the middle: their least is booked, once, until somebody tells more."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from orchestrator.definitions.vocabulary import child, each, loop, workflow
from orchestrator.engine import Claimed, Engine, Finished, Pointer, WorkerId
from orchestrator.engine.limits import GRACE
from orchestrator.engine.reserving import Busy, Granted, Wish
from orchestrator.engine.settling import Paid
from orchestrator.standing_budgets import StandingBudgets
from orchestrator.watching.costs import Costs
from schemas.outcomes import ErrorInfo, Failed, Limited
from schemas.usage import Budget, Usage
from tests.integration.engine.bench import Bench, named

A = named("a")
MODEL = "openai:scripted"
WORST = Usage(tokens=60, usd=0.06, model_calls=1)
LEAST = Usage(tokens=20, usd=0.02, model_calls=1)
TRUE = Usage(tokens=35, usd=0.035, model_calls=1)
NOTHING = Usage()


def flow(tokens: int = 1_000) -> Any:
    return workflow("w", each(A, parallel=50), budget=Budget(tokens=tokens))


def wish(claimed: Claimed, worst: Usage = WORST, least: Usage = LEAST) -> Wish:
    return Wish(uuid4(), claimed.run.id, claimed.path, claimed.attempt, "a", MODEL, worst, least)


def paid(one: Wish, usage: Usage = TRUE) -> Paid:
    return Paid(one.id, one.run_id, one.path, one.attempt, "a", MODEL, usage, 15)


class Books(NamedTuple):
    """What all of them say: of the run, of its tenant, of everybody, and of calls."""

    run: Usage
    tenant: Usage
    everybody: Usage
    costs: Usage


def books(bench: Bench) -> Books:
    def total(source: str) -> Usage:
        ((tokens, usd, calls),) = bench.query(
            "SELECT coalesce(sum(tokens), 0)::int, coalesce(sum(usd), 0)::float8,"  # noqa: S608  written here
            f" coalesce(sum(model_calls), 0)::int FROM {source}"
        )
        return Usage(tokens=tokens, usd=round(usd, 9), model_calls=calls)

    return Books(
        total("spendings"),
        total("budget_windows WHERE account LIKE '%%tenant%%'"),
        total("budget_windows WHERE account LIKE '%%all%%'"),
        total("costs"),
    )


def all_say(usage: Usage) -> Books:
    return Books(*[usage] * 4)


def in_flight(bench: Bench) -> tuple[Claimed, Wish]:
    """A call that is on its way, and counts for a run, a tenant and everybody."""
    standing = StandingBudgets(bench.pool)
    standing.put("tenant", "default", Budget(tokens=1_000))
    standing.put("all", "", Budget(tokens=1_000), per="month")
    claimed = bench.claim(bench.submit(flow(), [1, 2]), "0/0")
    call = wish(claimed)
    assert bench.engine.reserve([call]) == [Granted()]
    return claimed, call


def lose(bench: Bench, call: Wish) -> None:
    bench.messages += bench.engine.release(Pointer(call.run_id, call.path))


def settle(bench: Bench, call: Wish) -> None:
    bench.engine.settle_calls([paid(call)])


def refuse(bench: Bench, call: Wish) -> None:
    bench.engine.release_calls([call.id])


def look(bench: Bench, call: Wish) -> None:
    bench.messages += bench.engine.lapse_ended()


@pytest.mark.parametrize(
    ("story", "end"),
    [
        ([lose], LEAST),
        ([lose, look, look], LEAST),
        ([look, lose, settle], TRUE),
        ([lose, settle, settle, look], TRUE),
        ([settle, lose, look], TRUE),
        ([settle, lose, settle, refuse], TRUE),
        ([lose, refuse, look], NOTHING),
        ([lose, refuse, refuse], NOTHING),
        ([lose, refuse, settle], NOTHING),
        ([refuse, lose, look], NOTHING),
    ],
    ids=lambda one: "-".join(act.__name__ for act in one) if isinstance(one, list) else "",
)
def test_a_lost_call_counts_once_in_whatever_order_it_is_told(
    bench: Bench, story: list[Any], end: Usage
) -> None:
    _, call = in_flight(bench)

    for act in story:
        act(bench, call)

    assert books(bench) == all_say(end)
    assert bench.query("SELECT count(*) FROM reservations") == [(0,)]


def test_it_is_booked_as_whose_it_was_and_told_of_its_step_its_run_and_the_run_around_it(
    bench: Bench,
) -> None:
    inner = workflow("inner", each(A), budget=Budget(tokens=1_000))
    run = bench.submit(workflow("outer", child(inner)), [1])
    ((inside,),) = bench.query("SELECT id FROM runs WHERE parent_run IS NOT NULL")
    claimed = bench.claim(inside, "0/0")
    bench.engine.reserve([call := wish(claimed)])

    lose(bench, call)

    told = {by: Costs(bench.pool).by(by) for by in ("workflow", "agent", "model", "tenant")}
    assert {by: [one.key for one in costs] for by, costs in told.items()} == {
        "workflow": ["inner"],
        "agent": ["a"],
        "model": [MODEL],
        "tenant": ["default"],
    }
    assert told["model"][0].model_calls == 1
    assert bench.view(inside).totals.usage == LEAST
    assert next(step for step in bench.view(inside).steps if step.path == "0/0").totals.usage == LEAST
    assert bench.views.figures([inside])[0].usage == LEAST
    # And of the run around it, when this one has ended
    bench.drain()
    assert bench.view(run).totals.usage == LEAST


@pytest.mark.parametrize("ending", ["set aside", "cancelled", "killed for its time", "given back"])
def test_whoever_takes_the_attempt_away_it_is_booked(bench: Bench, ending: str) -> None:
    claimed, call = in_flight(bench)

    if ending == "set aside":
        bench.query("UPDATE steps SET losses = 99 WHERE path = '0/0'")
        lose(bench, call)
    elif ending == "given back":
        bench.messages += bench.engine.hand_back()
    elif ending == "cancelled":
        bench.engine.cancel(claimed.run.id)
        bench.sweep()
        # Its worker may be about to tell: that takes seconds
        assert books(bench) == all_say(NOTHING)
        bench.query("UPDATE steps SET finished_at = finished_at - make_interval(secs => %s)", GRACE + 1)
    else:
        error = ErrorInfo(type="AttemptTimeout", message="it was killed")
        bench.engine.record(Finished(claimed.run.id, claimed.path, claimed.attempt, Failed(error=error)))
    bench.sweep()

    assert books(bench) == all_say(LEAST)


def test_whoever_asks_next_sees_what_it_cost_and_no_more_is_held_for_it(bench: Bench) -> None:
    run = bench.submit(flow(100), [1, 2])
    first, second = (bench.claim(run, path) for path in ("0/0", "0/1"))
    bench.engine.reserve([held := wish(first)])
    bench.engine.record(Finished(run, "0/0", 1, Failed(error=ErrorInfo(type="X", message="it was killed"))))

    eighty, more = (wish(second, Usage(tokens=tokens, model_calls=1)) for tokens in (80, 81))
    (refused, granted) = bench.engine.reserve([more, eighty])

    assert "may consume 81 tokens, and 80 of 100 are left" in str(refused)
    assert granted == Granted()
    assert held.id not in {id for (id,) in bench.query("SELECT id FROM reservations")}


def test_who_waited_for_it_is_woken_when_it_is_taken_back(bench: Bench) -> None:
    run = bench.submit(flow(100), [1, 2])
    bench.messages.clear()
    first, second = (bench.claim(run, path) for path in ("0/0", "0/1"))
    bench.engine.reserve([held := wish(first)])
    (busy,) = bench.engine.reserve([wish(second)])
    assert isinstance(busy, Busy)
    recorded = bench.engine.record(
        Finished(run, "0/1", second.attempt, Limited(limit=busy.budget, due_in=300.0))
    )
    assert recorded.ready == ()

    lose(bench, held)

    assert [one.path for one in bench.messages] == ["0/0", "0/1"]
    assert bench.claim(run, "0/1").attempt == 2


def test_who_is_put_off_for_what_has_just_ended_is_woken_at_once(bench: Bench) -> None:
    run = bench.submit(flow(100), [1, 2])
    first, second = (bench.claim(run, path) for path in ("0/0", "0/1"))
    bench.engine.reserve([held := wish(first)])
    (busy,) = bench.engine.reserve([wish(second)])
    assert isinstance(busy, Busy)
    settle(bench, held)

    recorded = bench.engine.record(
        Finished(run, "0/1", second.attempt, Limited(limit=busy.budget, due_in=300.0))
    )

    assert [one.path for one in recorded.ready] == ["0/1"]
    assert bench.claim(run, "0/1").attempt == 2


def test_four_fifths_that_lost_calls_have_used_up_are_warned_of(bench: Bench) -> None:
    run = bench.submit(flow(100), [1])
    claimed = bench.claim(run, "0/0")
    bench.engine.reserve(
        [call := wish(claimed, Usage(tokens=90, model_calls=1), Usage(tokens=85, model_calls=1))]
    )

    lose(bench, call)

    (told,) = [one.data for one in bench.events(run) if one.kind.value == "run.budget_warning"]
    assert told["used"] == 0.85


def test_a_correction_counts_in_the_window_in_which_the_call_was_booked(bench: Bench) -> None:
    _, call = in_flight(bench)
    lose(bench, call)
    bench.query("UPDATE costs SET at = at - interval '40 days'")
    bench.query("UPDATE budget_windows SET opens_at = date_trunc(split_part(account, ':', 1),"
                " clock_timestamp() - interval '40 days', 'UTC')")  # fmt: skip

    settle(bench, call)

    assert books(bench) == all_say(TRUE)
    assert bench.query("SELECT count(*) FROM budget_windows WHERE opens_at > now() - interval '32 days'") == [
        (0,)
    ]


@pytest.mark.parametrize("tell", [refuse, settle])
def test_a_correction_is_none_of_the_budget_that_a_resumed_run_has_anew(bench: Bench, tell: Any) -> None:
    """What was booked of the call is forgiven: no more may be taken from that, nor is anything owed."""
    StandingBudgets(bench.pool).put("tenant", "default", Budget(tokens=1_000))
    run = bench.submit(workflow("w", A >> loop(named("b"), max_rounds=3), budget=Budget(tokens=1_000)), 0)
    bench.engine.reserve([call := wish(bench.claim(run, "0"))])
    lose(bench, call)
    bench.fail(bench.claim(run, "0"))
    bench.messages = bench.engine.resume(run)

    tell(bench, call)

    assert books(bench).run == NOTHING
    assert books(bench).tenant == books(bench).costs == (NOTHING if tell is refuse else TRUE)
    bench.drain(lambda _, given, __: given + 1)
    assert bench.view(run).error is None


def test_a_call_that_is_told_while_it_is_taken_back_counts_once(bench: Bench) -> None:
    """Whoever comes first, and however they meet: the books say in the end what it has cost."""
    calls = 24
    run = bench.submit(flow(100_000), list(range(calls)))
    StandingBudgets(bench.pool).put("tenant", "default", Budget(tokens=100_000))
    claims = [bench.claim(run, f"0/{n}") for n in range(calls)]
    made = [wish(one) for one in claims]
    bench.engine.reserve(made)
    rng, together = random.Random(7), threading.Barrier(3)
    others = [Engine(bench.pool, WorkerId(uuid4(), f"w{n}")) for n in range(3)]

    def tell() -> None:
        together.wait()
        for number in range(0, calls, 3):
            others[0].settle_calls([paid(one) for one in made[number : number + 3]])

    def take_back() -> None:
        order = rng.sample(made, calls)
        together.wait()
        for one in order:
            bench.engine.release(Pointer(one.run_id, one.path))

    def ask() -> None:
        together.wait()
        for _ in range(calls):
            others[2].lapse_ended()
            others[2].reserve([wish(claims[0], least=NOTHING)])

    with ThreadPoolExecutor(3) as threads:
        for one in [threads.submit(act) for act in (tell, take_back, ask)]:
            one.result()

    total = Usage(tokens=calls * 35, usd=round(calls * 0.035, 9), model_calls=calls)
    found = books(bench)
    assert (found.run, found.tenant, found.costs) == (total, total, total)
    assert bench.query("SELECT count(*) FROM costs WHERE lost = 'unheard'") == [(0,)]


def test_without_a_budget_nothing_is_set_aside_and_nothing_booked(bench: Bench) -> None:
    claimed = bench.claim(bench.submit(workflow("w", each(A)), [1]), "0/0")
    call = wish(claimed)
    assert bench.engine.reserve([call]) == [Granted()]

    lose(bench, call)

    assert bench.query("SELECT count(*) FROM costs") == [(0,)]


def test_nobody_who_takes_back_waits_for_somebody_who_tells(bench: Bench) -> None:
    claimed, call = in_flight(bench)
    with bench.pool.connection() as conn, conn.transaction():
        conn.execute("DELETE FROM reservations WHERE id = %s", [call.id])  # it is being settled just now
        with ThreadPoolExecutor(1) as thread:
            freed = thread.submit(bench.engine.release, Pointer(call.run_id, call.path)).result(timeout=30)

    assert [(one.run.id, one.path) for one in freed] == [(claimed.run.id, "0/0")]
