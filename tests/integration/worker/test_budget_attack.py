"""Several worker processes call a model for one budget at the same time, and one of them is killed in the middle."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_no_budget_is_exceeded_by_many_processes_of_which_one_dies(alone: Stack) -> None:
    # Given workers that make as many calls as the budget lets them
    with ScriptedProvider(script, price=spending.PRICE) as provider:
        env = {"BATON_APP": "tests.agents.spending", "TEST_PROVIDER": provider.base_url}
        workers = [alone.begin("spender", concurrency=16, **env) for _ in range(2)]
        for worker in workers:
            ready(worker)
        run = alone.submit(spending.spree, [{"text": str(n)} for n in range(spending.CALLS)])

        # When one is killed with calls in flight, while somebody watches
        eventually(lambda: len(provider.log) >= 8, timeout=40)
        workers[0].kill()

        def ended() -> None:
            assert committed(alone) <= spending.BUDGET + 1e-9
            assert run.view().state is RunState.COMPLETED

        eventually(ended, timeout=60)

    # Then the budget was used as far as another call could cost, and no further
    ((spent,),) = alone.query("SELECT sum(usd)::float8 FROM spendings")
    assert spending.BUDGET - WORST < spent <= spending.BUDGET + 1e-9
    # And what was paid was counted once each: nothing is missing but what the dead worker had in flight
    ((booked, calls),) = alone.query("SELECT sum(usd)::float8, count(*) FROM costs")
    assert booked == pytest.approx(spent) == pytest.approx(calls * PAID)
    assert 0 <= len(provider.log) - calls <= 16
    done = states(alone).count("done")
    assert done <= calls <= done + 16
    # And nothing is set aside any more
    assert committed(alone) == pytest.approx(spent)
    assert run.view().degraded


def states(alone: Stack) -> list[Any]:
    return [state for (state,) in alone.query("SELECT state FROM steps WHERE kind = 'agent'")]
