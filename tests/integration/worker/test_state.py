"""Agents in real processes, some of which are killed, share state of which nothing is lost or counted twice."""

from __future__ import annotations

from tests.agents.remembering import tallying
from tests.integration.worker.stack import Stack
from tests.support import eventually

APP = "tests.agents.remembering"
AGENTS = ("tally", "awaited_tally", "recall")


def test_workers_that_are_killed_lose_no_write_and_make_none_twice(alone: Stack) -> None:
    # Given workers of both kinds, one of which dies in the middle
    doomed = alone.worker(*AGENTS, concurrency=10, BATON_APP=APP, BATON_LEASE="1.0", BATON_HEARTBEAT="0.2")
    run = alone.submit(tallying, list(range(60)))
    eventually(lambda: alone.query("SELECT count(*) > 10 FROM state_writes")[0][0], timeout=30)
    doomed.kill()
    alone.worker(*AGENTS, concurrency=10, BATON_APP=APP, BATON_LEASE="1.0", BATON_HEARTBEAT="0.2")
    alone.begin("tally", "recall", pool="prefork", concurrency=2, BATON_APP=APP)

    # Then everything was counted once
    found = run.result(60)
    assert (found["sum"], found["calls"]) == (2 * sum(range(60)), 120)
    assert sorted(found["seen"]) == list(range(60))
    assert found["talked"] == 1
    (decided,) = [event for event in alone.client.events(run.id) if event.kind == "step.decided"]
    told = {"choice": "recall", "by": "step", "reason": "it was asked for", "alternatives": {"forget": 0.1}}
    assert (decided.path, decided.data) == ("1", told)
