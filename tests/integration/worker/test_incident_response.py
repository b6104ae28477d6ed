"""The example of incidents, with the events of its file, on real workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from examples import incident_response
from orchestrator.cli.app import app
from orchestrator.loading import load
from schemas.settings import settings
from tests.integration.worker.stack import Stack
from tests.support import eventually

EVENTS = Path(incident_response.__file__).parent / "events.jsonl"
APP = "examples.incident_response"


@pytest.fixture
def alone(alone: Stack, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BATON_DATABASE_URL", alone.database_url)
    monkeypatch.setenv("BATON_BROKER_URL", alone.broker_url)
    settings.cache_clear()
    yield alone
    settings.cache_clear()


def incidents(stack: Stack) -> dict[str, Any]:
    """The runs of incidents, by service."""
    found = [stack.client.run(run.id) for run in stack.client.runs() if run.workflow == "incident"]
    return {run.input["service"]: run for run in found}


def test_the_events_of_its_file_become_incidents_and_a_digest(alone: Stack) -> None:
    # Given workers of the example, and its events, told twice
    alone.worker(*load(APP).specs, BATON_APP=APP)
    for told in ("10 stored, 0 were there already.", "0 stored, 10 were there already."):
        assert CliRunner().invoke(app, ["events", "load", str(EVENTS)]).stdout == f"{told}\n"

    # Then the alerts of each service are one incident; the resolved one has ended, though its end came first
    def both() -> None:
        states = {service: run.state for service, run in incidents(alone).items()}
        assert states == {"checkout": "completed", "search": "running"}

    eventually(both, timeout=40)
    report = incidents(alone)["checkout"].output
    assert report["incident"] == {
        "number": 1,
        "service": "checkout",
        "since": "2026-11-21T10:06:10Z",
        "signals": ["error rate 7 %", "payment timeouts", "error rate 11 %"],
        "suspect": "412",
    }
    assert report["resolution"]["how"] == "rolled back to 411"
    assert report["story"][-1] == "2026-11-21T10:31:00Z incident 1 ended: rolled back to 411"

    # The other one is handed over when its time is over; the faulty alert was set aside
    alone.query("UPDATE steps SET due_at = clock_timestamp() WHERE state = 'waiting' RETURNING path")

    def ended() -> None:
        assert incidents(alone)["search"].state == "completed"

    eventually(ended, timeout=40)
    assert incidents(alone)["search"].output["resolution"]["by"] == "nobody"
    (faulty,) = alone.client.inbox.recent(failed=True)
    assert (faulty.id, "severity" in (faulty.deliveries[0].reason or "")) == ("a-6", True)

    # What they share can be looked at
    shared = CliRunner().invoke(app, ["state", "key", "checkout", "--json"])
    assert json.loads(shared.stdout)["incidents"] == {"value": 1, "version": 1}
    told = CliRunner().invoke(app, ["state", "session", "search"]).stdout
    assert "incident 1 began: no healthy replica" in told
    run = CliRunner().invoke(app, ["state", "run", str(incidents(alone)["search"].id)]).stdout
    assert "no healthy replica" in run

    # And a schedule tells of both, once
    alone.client.schedule("digest", incident_response.incident_digest, {}, cron="0 7 * * *")
    first = alone.client.fire_schedule("digest").result(40)
    assert [line.partition(":")[0] for line in first] == ["checkout", "search"]
    assert alone.client.fire_schedule("digest").result(40) == []


def test_a_file_with_a_fault_stores_nothing(alone: Stack, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps({"type": "a"}) + '\n{"type": 7}\n')

    refused = CliRunner().invoke(app, ["events", "load", str(file)])

    assert refused.exit_code != 0
    assert alone.client.inbox.recent() == []
