"""`baton events` and `baton subscriptions` on a real database, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli.app import app
from orchestrator.client import Client
from schemas.settings import settings
from tests.integration.engine.bench import Bench
from tests.integration.results.conftest import on_database


@pytest.fixture(autouse=True)
def here(migrated: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BATON_DATABASE_URL", migrated)
    monkeypatch.setenv("BATON_BROKER_URL", on_database(redis_url, 11))
    monkeypatch.setenv("BATON_APP", "tests.agents.reacting")
    settings.cache_clear()
    yield
    settings.cache_clear()


def baton(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=stdin)


def good(*words: str, stdin: str | None = None) -> str:
    result = baton(*words, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_event_from_its_sender_to_its_run(bench: Bench) -> None:
    assert "There are no subscriptions" in good("subscriptions", "ls")
    assert "New or changed: " in good("subscriptions", "deploy")
    assert "none, of" in good("subscriptions", "deploy")
    assert "There are no events" in good("events", "ls")

    assert good("events", "emit", "number.came", "41", "--id", "n-41").strip() == "n-41"
    again = baton("events", "emit", "number.came", "41", "--id", "n-41")
    assert "It was there already." in again.stderr
    bench.drain()

    shown = json.loads(good("events", "show", "n-41", "--json"))
    (delivery,) = shown["deliveries"]
    assert (delivery["subscription"], delivery["state"]) == ("numbers", "started")
    assert delivery["run_id"] in good("events", "show", "n-41")
    assert json.loads(good("runs", "show", delivery["run_id"], "--json"))["input"] == 41
    (listed,) = json.loads(good("events", "ls", "--json"))
    assert listed == shown
    assert "number.came" in good("events", "ls", "--type", "number.came")
    assert json.loads(good("events", "ls", "--type", "other", "--json")) == []


def test_a_payload_is_json_a_text_a_file_or_stdin(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"from": "a file"}')
    for payload, stdin in (('{"a": 1}', None), ("plain text", None), (f"@{file}", None), ("-", "[1, 2]")):
        good("events", "emit", "a", payload, stdin=stdin)
    good("events", "emit", "a")

    found = [one.payload for one in client.inbox.recent()]
    assert found == [None, [1, 2], {"from": "a file"}, "plain text", {"a": 1}]


def test_what_was_set_aside_is_shown_and_tried_again(bench: Bench) -> None:
    good("subscriptions", "deploy")
    good("events", "emit", "number.came", '"no number"', "--id", "bad")
    bench.fire()

    assert "failed" in good("events", "show", "bad")
    assert "is not of type" in good("events", "show", "bad")
    assert [e["id"] for e in json.loads(good("events", "ls", "--failed", "--json"))] == ["bad"]
    assert "baton events retry bad" in baton("events", "show", "bad").stderr
    assert good("events", "retry", "bad") == "1 are judged again.\n"
    bench.fire()
    assert good("events", "drop", "--subscription", "numbers") == "1 were dropped.\n"
    assert json.loads(good("events", "retry", "--json")) == {"retry": 0}


def test_a_subscription_is_shown_paused_resumed_and_removed() -> None:
    good("subscriptions", "deploy")

    assert "number.came" in good("subscriptions", "ls")
    assert "after 5.0 s of quiet, latest" in good("subscriptions", "ls")
    assert "every event starts a run" in good("subscriptions", "show", "numbers")
    assert good("subscriptions", "pause", "numbers") == "numbers is paused.\n"
    assert "paused" in good("subscriptions", "show", "numbers")
    assert json.loads(good("subscriptions", "resume", "numbers", "--json"))["enabled"] is True
    assert good("subscriptions", "rm", "numbers") == "numbers is gone.\n"
    assert baton("subscriptions", "show", "numbers").exit_code != 0


@pytest.mark.parametrize(
    "words",
    [
        ("events", "emit", "a b"),
        ("events", "show", "none"),
        ("events", "retry", "none"),
        ("subscriptions", "pause", "none"),
        ("subscriptions", "rm", "none"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(words: tuple[str, ...]) -> None:
    refused = baton(*words)

    assert refused.exit_code != 0
    assert "Traceback" not in refused.output
    assert refused.stderr.strip()
