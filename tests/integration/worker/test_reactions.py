"""Real workers deploy what their app declares, and start what events ask for."""

from __future__ import annotations

from tests.integration.worker.stack import Stack
from tests.support import eventually


def test_a_worker_starts_what_events_ask_for(alone: Stack) -> None:
    # Given two workers of an app that reacts
    app = "tests.agents.reacting"
    alone.worker("noted", BATON_APP=app)
    alone.worker("noted", pool="prefork", concurrency=1, BATON_APP=app)
    assert [one.name for one in alone.client.subscriptions.all()] == ["numbers", "quiet"]

    # When an event comes, twice
    for _ in range(2):
        alone.client.emit("number.came", 7, key="k", id="n-7")

    # Then one run has ended a moment later
    def ended() -> None:
        assert [one.state for one in alone.client.runs()] == ["completed"]

    eventually(ended, timeout=20)
    (run,) = alone.client.runs()
    output = {"subscription": "numbers", "event": "n-7", "key": "k"}
    assert alone.client.run(run.id).output == output
