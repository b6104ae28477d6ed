"""Reservations of many engines at a time, in budgets that share calls: none is exceeded, and every call counts once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.definitions.vocabulary import each, workflow
from orchestrator.engine import Claimed, Engine, Pointer, WorkerId
from orchestrator.engine.reserving import Busy, Exceeded, Granted, Over, Wish
from orchestrator.engine.settling import Paid
from orchestrator.standing_budgets import StandingBudgets
from schemas.errors import InputError, NotFound
from schemas.usage import MOST, Budget, Usage
from tests.integration.engine.bench import Bench, done, named

A = named("a")
WIDTH = 8
LIMITS = {"run": 4_000, "tenant": 3_000, "all": 2_500}


def wish(claimed: Claimed, tokens: int) -> Wish:
    worst = Usage(tokens=tokens, model_calls=1)
    return Wish(uuid4(), claimed.run.id, claimed.path, claimed.attempt, "a", "openai:scripted", worst)


def paid(one: Wish, tokens: int) -> Paid:
    return Paid(one.id, one.run_id, one.path, one.attempt, "a", one.name, Usage(tokens=tokens), 0)


def committed(bench: Bench) -> dict[str, int]:
    """What is spent and set aside of each budget, as one snapshot sees it."""
    rows = bench.query(
        "SELECT account, sum(tokens)::int FROM ("
        " SELECT 'run:' || run_id AS account, tokens FROM spendings UNION ALL"
        " SELECT account, tokens FROM budget_windows UNION ALL"
        " SELECT account, tokens FROM reservations) b GROUP BY account"
    )
    return dict(rows)


def of(bench: Bench, kind: str) -> int:
    """The same of the accounts of runs, of tenants, or of everybody."""
    return sum(total for account, total in committed(bench).items() if kind in account.split(":"))


def test_many_engines_exceed_no_budget_together(bench: Bench) -> None:
    # Given calls of two runs that count in budgets of their runs, of a tenant and of everybody
    standing = StandingBudgets(bench.pool)
    standing.put("tenant", "acme", Budget(tokens=LIMITS["tenant"]))
    standing.put("all", "", Budget(tokens=LIMITS["all"]))
    flow = workflow("w", each(A, parallel=WIDTH), budget=Budget(tokens=LIMITS["run"]))
    runs = [bench.submit(flow, list(range(WIDTH)), tenant=tenant) for tenant in ("acme", "other")]
    spent: list[int] = []
    seen: list[tuple[int, int, int]] = []
    together = threading.Barrier(2 * WIDTH)

    def work(number: int) -> str:
        rng = random.Random(number)
        engine = Engine(bench.pool, WorkerId(uuid4(), f"w{number}"))
        claimed = engine.claim(Pointer(runs[number % 2], f"0/{number // 2}"))
        assert isinstance(claimed, Claimed)
        together.wait()
        while True:
            one = wish(claimed, rng.randint(50, 150))
            match engine.reserve([one])[0]:
                case Exceeded(reason):
                    return reason
                case Granted():
                    seen.append((of(bench, "run"), of(bench, "tenant"), of(bench, "all")))
                    if rng.random() < 0.2:
                        engine.release_calls([one.id])
                        continue
                    used = rng.randint(1, one.worst.tokens)
                    for _ in range(rng.choice((1, 2))):
                        engine.settle_calls([paid(one, used)])
                    spent.append(used)

    # When they call until nothing is left
    with ThreadPoolExecutor(2 * WIDTH) as threads:
        reasons = list(threads.map(work, range(2 * WIDTH)))

    # Then no budget was exceeded at any moment, and each call counts once everywhere
    assert max(total for _, _, total in seen) <= LIMITS["all"]
    assert max(total for _, total, _ in seen) <= LIMITS["tenant"]
    assert of(bench, "all") == of(bench, "run") == sum(spent)
    assert LIMITS["all"] - 150 < sum(spent) <= LIMITS["all"]
    assert bench.query("SELECT sum(tokens)::int, count(*) FROM costs") == [(sum(spent), len(spent))]
    assert bench.query("SELECT count(*) FROM reservations") == [(0,)]
    assert any("the budget per day; it opens again at" in reason for reason in reasons)


def test_a_call_waits_for_those_in_flight_and_is_refused_when_they_leave_too_little(bench: Bench) -> None:
    run = bench.submit(workflow("w", each(A), budget=Budget(tokens=100)), [1, 2])
    first, second = (wish(bench.claim(run, path), 60) for path in ("0/0", "0/1"))

    assert bench.engine.reserve([first, second]) == [Granted(), Busy(f"budget of run {run}")]
    assert bench.engine.reserve([first]) == [Granted()]  # asked again, for want of an answer
    bench.engine.settle_calls([paid(first, 50)])

    (refused,) = bench.engine.reserve([second])
    assert isinstance(refused, Exceeded)
    assert "it may consume 60 tokens, and 50 of 100 are left" in refused.reason


@pytest.mark.parametrize("ending", ["done", "cancelled", "released"])
def test_what_an_attempt_has_set_aside_ends_with_it(bench: Bench, ending: str) -> None:
    run = bench.submit(workflow("w", each(A), budget=Budget(tokens=100)), [1, 2])
    claimed = bench.claim(run, "0/0")
    held, other = wish(claimed, 60), wish(bench.claim(run, "0/1"), 60)
    assert bench.engine.reserve([held]) == [Granted()]

    if ending == "done":
        bench.engine.record(done(claimed))
    elif ending == "released":
        bench.engine.release(Pointer(run, "0/0"))
    else:
        bench.engine.cancel(run)
        # Its worker may not have heard of it: that takes seconds
        assert bench.engine.reserve([other]) == [Busy(f"budget of run {run}")]
        bench.query("UPDATE steps SET finished_at = finished_at - interval '6 s' WHERE path = '0/0'")

    assert bench.engine.reserve([other]) == [Granted()]


@pytest.mark.parametrize("ending", ["done", "released", "taken over"])
def test_an_attempt_that_is_over_begins_no_call(bench: Bench, ending: str) -> None:
    run = bench.submit(workflow("w", each(A), budget=Budget(tokens=100)), [1, 2])
    claimed = bench.claim(run, "0/0")

    if ending == "done":
        bench.engine.record(done(claimed))
    else:
        bench.engine.release(Pointer(run, "0/0"))
    if ending == "taken over":
        bench.claim(run, "0/0")

    assert bench.engine.reserve([wish(claimed, 60), wish(bench.claim(run, "0/1"), 60)]) == [
        Over(1),
        Granted(),
    ]
    assert bench.query("SELECT path FROM reservations") == [("0/1",)]


def test_who_hears_too_late_that_it_was_cancelled_begins_no_call(bench: Bench) -> None:
    """Nothing would be held for it: its process was stopped, and others count on what it had."""
    StandingBudgets(bench.pool).put("tenant", "default", Budget(tokens=100))
    late = []
    for _ in range(3):
        run = bench.submit(workflow("w", A))
        late.append(wish(bench.claim(run, "0"), 60))
        bench.engine.cancel(run)
    bench.query("UPDATE steps SET finished_at = finished_at - interval '6 s'")

    assert [bench.engine.reserve([one]) for one in late] == [[Over(1)]] * 3


def test_who_was_let_through_unheard_and_is_refused_when_it_asks_again_has_called_nobody(
    bench: Bench,
) -> None:
    standing = StandingBudgets(bench.pool)
    standing.put("tenant", "default", Budget(tokens=100))
    run = bench.submit(workflow("w", A))
    claimed = bench.claim(run, "0")
    one = wish(claimed, 60)._replace(least=Usage(tokens=20, model_calls=1))
    assert bench.engine.reserve([one]) == [Granted()]  # and the connection broke

    standing.put("tenant", "default", Budget(tokens=50))
    (refused,) = bench.engine.reserve([one])
    bench.fail(claimed)
    bench.sweep()

    assert isinstance(refused, Exceeded)
    assert bench.query("SELECT count(*) FROM reservations UNION ALL SELECT count(*) FROM costs") == [(0,)] * 2


def test_a_late_call_of_a_cancelled_run_has_been_paid_for(bench: Bench) -> None:
    StandingBudgets(bench.pool).put("tenant", "default", Budget(tokens=1_000))
    run = bench.submit(workflow("w", A, budget=Budget(tokens=100)))
    one = wish(bench.claim(run, "0"), 60)
    bench.engine.reserve([one])
    bench.engine.cancel(run)

    bench.engine.settle_calls([paid(one, 60)])

    assert of(bench, "tenant") == of(bench, "run") == 60


def test_a_count_without_measure_is_counted_and_fails_no_neighbour(bench: Bench) -> None:
    run = bench.submit(workflow("w", each(A), budget=Budget(tokens=100)), [1, 2])
    first, second = (wish(bench.claim(run, path), tokens) for path, tokens in (("0/0", 10**30), ("0/1", 10)))

    refused, granted = bench.engine.reserve([first, second])
    bench.engine.settle_calls([paid(first, 10**30), paid(second, 10)])

    assert isinstance(refused, Exceeded)
    assert granted == Granted()
    assert bench.query("SELECT tokens FROM costs ORDER BY tokens") == [(10,), (MOST,)]


def test_bounds_without_measure_fail_no_neighbour(bench: Bench) -> None:
    run = bench.submit(workflow("w", each(A), budget=Budget(tokens=100)), [1, 2])
    first, second = (wish(bench.claim(run, path), 10) for path in ("0/0", "0/1"))
    endless = first._replace(worst=Usage(tokens=10, model_calls=10**30), least=Usage(model_calls=10**30))

    assert bench.engine.reserve([endless, second]) == [Granted(), Granted()]
    bench.engine.settle_calls([paid(second, 10), paid(endless, 10)._replace(usage=endless.worst)])
    assert bench.query("SELECT model_calls FROM costs ORDER BY 1") == [(0,), (MOST,)]


def test_a_new_limit_holds_from_the_next_call_on(bench: Bench) -> None:
    standing = StandingBudgets(bench.pool)
    run = bench.submit(workflow("w", A))
    claimed = bench.claim(run, "0")
    assert bench.engine.reserve([wish(claimed, 60)]) == [Granted()]

    standing.put("agent", "a", Budget(tokens=50), per="month")
    assert isinstance(bench.engine.reserve([wish(claimed, 60)])[0], Exceeded)
    standing.put("agent", "a", Budget(tokens=70), per="month")
    assert bench.engine.reserve([wish(claimed, 60)]) == [Granted()]
    standing.remove("agent", "a", per="month")
    assert bench.engine.reserve([wish(claimed, 60)]) == [Granted()]


def test_what_is_no_standing_budget_is_refused(bench: Bench) -> None:
    standing = StandingBudgets(bench.pool)
    wrong: list[tuple[Any, str, Budget, Any]] = [
        ("team", "x", Budget(tokens=1), "day"),
        ("tenant", "", Budget(tokens=1), "day"),
        ("all", "x", Budget(tokens=1), "day"),
        ("agent", "a", Budget(), "day"),
        ("agent", "a", Budget(tokens=1), "week"),
        ("tenant", "a\0b", Budget(tokens=1), "day"),
    ]
    for scope, name, budget, per in wrong:
        with pytest.raises(InputError):
            standing.put(scope, name, budget, per=per)
    with pytest.raises(NotFound):
        standing.remove("agent", "a")
    assert standing.all() == []


def test_a_budget_that_is_set_while_calls_are_paid_for_counts_each_of_them_once(bench: Bench) -> None:
    # Given many calls that end while a budget is set, removed and set again
    run = bench.submit(workflow("w", each(A, parallel=WIDTH)), list(range(WIDTH)))
    standing, together, calls = StandingBudgets(bench.pool), threading.Barrier(WIDTH + 1), 12

    def pay(number: int) -> None:
        engine = Engine(bench.pool, WorkerId(uuid4(), f"w{number}"))
        claimed = engine.claim(Pointer(run, f"0/{number}"))
        assert isinstance(claimed, Claimed)
        together.wait()
        for _ in range(calls):
            engine.settle_calls([paid(wish(claimed, 10), 10)])

    with ThreadPoolExecutor(WIDTH) as threads:
        paying = [threads.submit(pay, number) for number in range(WIDTH)]
        together.wait()
        standing.put("all", "", Budget(tokens=10_000))
        standing.remove("all", "")
        standing.put("all", "", Budget(tokens=10_000))
        for one in paying:
            one.result()

    # Then its account says what they have cost
    assert of(bench, "all") == 10 * WIDTH * calls
