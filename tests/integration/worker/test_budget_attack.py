"""Several worker processes consume of budgets at the same time, and some of them are killed in the middle."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest

from orchestrator.client import RunHandle
from schemas import Budget
from schemas.runs import RunState
from tests.agents import spending
from tests.integration.worker.stack import Stack, ready
from tests.support import eventually
from workers.scripted import Asked, Reply, ScriptedProvider

PAID = 0.006
"""US dollars of each answer."""
WORST = 0.02
"""What is set aside for it, at most."""


def script(asked: Asked) -> Reply:
    return Reply(output={"text": f"{asked.conversation}"}, tokens=(100, 50), delay=0.3)


def committed(alone: Stack) -> float:
    """What is spent and set aside, as one snapshot sees it."""
    ((spent, reserved),) = alone.query(
        "SELECT (SELECT coalesce(sum(usd), 0) FROM spendings)::float8,"
        " (SELECT coalesce(sum(v.usd), 0) FROM reservations v JOIN steps s ON s.run_id = v.run_id AND s.path = v.path"
        "  AND s.attempt = v.attempt AND s.state = 'running')::float8"
    )
    return float(spent + reserved)


def test_no_budget_is_exceeded_by_many_processes_of_which_some_die(alone: Stack) -> None:
    # Given workers that make as many calls as two budgets let them: of dollars, and of calls
    with ScriptedProvider(script, price=spending.PRICE) as provider:
        env: dict[str, Any] = {"BATON_APP": "tests.agents.spending", "TEST_PROVIDER": provider.base_url}
        workers = [alone.begin("spender", concurrency=16, **env) for _ in range(3)]
        for worker in workers:
            ready(worker)
        texts = [{"text": str(n)} for n in range(spending.CALLS)]
        spree = alone.submit(spending.spree, texts)
        counted = alone.submit(spending.counted, [{"text": f"counted {n}"} for n in range(spending.CALLS)])

        # When two of them are killed with calls in flight, while somebody watches
        for worker in workers[:2]:
            seen = len(provider.log)
            eventually(lambda: len(provider.log) >= seen + 8, timeout=40)  # noqa: B023  at once
            worker.kill()

        def ended() -> None:
            assert committed(alone) <= spending.BUDGET + WORST * spending.FEW + 1e-9
            assert {run.view().state for run in (spree, counted)} == {RunState.COMPLETED}

        eventually(ended, timeout=60)

    # Then the provider was never asked more often than a budget allows, and the books have all that it was asked
    asked = Counter("counted" in one.said for one in provider.log)
    booked = {run.id: books(alone, run) for run in (spree, counted)}
    assert asked[True] <= booked[counted.id].calls <= spending.FEW
    assert asked[False] <= booked[spree.id].calls
    # And each budget was used as far as another call could cost, and no further
    assert booked[counted.id].calls == spending.FEW
    assert spending.BUDGET - WORST < booked[spree.id].usd <= spending.BUDGET + 1e-9
    for run in (spree, counted):
        # What was told is what was paid; of the dead, what they had in flight costs at least its input
        found = booked[run.id]
        assert found.spent == pytest.approx(found.usd)
        assert found.heard == pytest.approx(PAID * (found.calls - found.lost))
        assert found.usd > found.heard or found.lost == 0
        totals = run.view().totals.usage
        assert totals.model_calls == found.calls
        assert totals.usd == pytest.approx(found.usd)
        assert run.view().degraded
    assert sum(found.lost for found in booked.values()) > 0
    # And nothing is set aside any more
    assert alone.query("SELECT count(*) FROM reservations") == [(0,)]


class Books(NamedTuple):
    """What the books say of a run."""

    calls: int
    usd: float
    heard: float
    """Dollars of calls of which somebody has told."""
    lost: int
    """Calls of which nobody has."""
    spent: float
    """Dollars in the account of its budget."""


def books(alone: Stack, run: RunHandle) -> Books:
    ((calls, usd, heard, lost, spent),) = alone.query(
        "SELECT sum(model_calls)::int, sum(usd)::float8, (sum(usd) FILTER (WHERE lost IS NULL))::float8,"
        " count(*) FILTER (WHERE lost = 'unheard'), (SELECT sum(usd)::float8 FROM spendings WHERE run_id = %s)"
        " FROM costs WHERE run_id = %s",
        run.id,
        run.id,
    )
    return Books(calls, usd, heard, lost, spent)


def test_what_agents_tell_at_their_end_exceeds_no_budget_though_a_worker_dies(alone: Stack) -> None:
    # Given workers of both kinds for more branches than the budgets of two runs and of their tenant allow for
    tenant = 300
    alone.client.budgets.put("tenant", "default", Budget(tokens=tenant))
    env: dict[str, Any] = {"BATON_APP": "tests.agents.spending"}
    doomed = alone.begin("teller", "sync_teller", concurrency=8, **env)
    workers = [
        doomed,
        alone.begin("teller", concurrency=8, **env),
        alone.begin("sync_teller", pool="prefork", concurrency=4, **env),
    ]
    for worker in workers:
        ready(worker)
    texts = [{"text": "x" * n} for n in range(24)]
    runs = [alone.submit(flow, texts) for flow in (spending.told, spending.told_in_threads)]

    # When one is killed with attempts under way, while somebody watches
    held = "SELECT count(*) FROM reservations v JOIN steps s USING (run_id, path) JOIN workers w ON w.id = s.worker_id"
    eventually(lambda: alone.query(f"{held} WHERE w.name LIKE 'threads1%%'") >= [(2,)], timeout=40)
    doomed.kill()

    def ended() -> None:
        assert {run.view().state for run in runs} == {RunState.COMPLETED}

    eventually(ended, timeout=60)

    # Then no more was told than a budget allows, and so much that no other attempt would fit
    spent = [tokens for (tokens,) in alone.query("SELECT sum(tokens)::int FROM spendings GROUP BY run_id")]
    assert max(spent) <= spending.TOLD
    assert tenant - 30 < sum(spent) <= tenant
    assert alone.query("SELECT sum(tokens)::int FROM budget_windows") == [(sum(spent),)]
    # And each step has run, or has been refused; whoever waited used up no retry
    found = alone.query("SELECT DISTINCT state, error ->> 'type' FROM steps WHERE kind = 'agent'")
    assert set(found) == {("done", None), ("failed", "BudgetExceeded")}
    assert alone.query("SELECT max(retries) FROM steps") == [(0,)]
    assert alone.query("SELECT count(*) FROM attempts WHERE state = 'lost'") >= [(1,)]
    assert alone.query("SELECT count(*) FROM reservations") == [(0,)]
