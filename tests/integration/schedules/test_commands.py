"""`baton schedules` on a real database, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli.app import app
from orchestrator.client import Client
from schemas.settings import settings
from tests.integration.engine.bench import Bench
from tests.integration.results.conftest import on_database

APP = "tests.agents.arithmetic"


@pytest.fixture(autouse=True)
def here(migrated: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BATON_DATABASE_URL", migrated)
    monkeypatch.setenv("BATON_BROKER_URL", on_database(redis_url, 12))
    monkeypatch.setenv("BATON_APP", APP)
    settings.cache_clear()
    yield
    settings.cache_clear()


def baton(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def good(*words: str) -> str:
    result = baton(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_schedule_from_its_beginning_to_its_end(client: Client, bench: Bench) -> None:
    assert "There are no schedules" in good("schedules", "ls")

    # Set
    told = good(
        "schedules",
        "add",
        "s",
        "single",
        "41",
        "--cron",
        "0 9 * * *",
        "--tz",
        "Europe/Berlin",
        "--label",
        "a=b",
    )
    assert told.startswith("s starts single at 0 9 * * * Europe/Berlin, next 20")
    assert "09:00:00 CE" in told

    # Looked at
    assert "09:00:00" in good("schedules", "ls")
    (listed,) = json.loads(good("schedules", "ls", "--json"))
    shown = json.loads(good("schedules", "show", "s", "--json"))
    assert listed == shown
    assert (shown["name"], shown["input"], shown["labels"]) == ("s", 41, {"a": "b"})
    assert good("schedules", "show", "s").count("09:00:00") == 5

    # Fired by hand
    run = json.loads(good("schedules", "fire", "s", "--json"))["id"]
    assert [str(one.id) for one in client.runs(label="schedule=s")] == [run]
    assert run in good("schedules", "show", "s")

    # Paused and resumed
    assert good("schedules", "pause", "s") == "s is paused.\n"
    assert "paused" in good("schedules", "ls")
    assert "paused" in good("schedules", "show", "s")
    assert "next" in good("schedules", "resume", "s")

    # Changed, which has to be said
    refused = baton("schedules", "add", "s", "single", "1", "--every", "1h30m")
    assert refused.exit_code == 1
    assert "there is a schedule 's' already" in refused.stderr
    alone = ["--every", "1h30m", "--overlap", "skip", "--replace"]
    assert "every 90 min" in good("schedules", "add", "s", "single", "1", *alone)
    assert "overlap   skip" in good("schedules", "show", "s")

    # Removed
    assert good("schedules", "rm", "s") == "s is gone.\n"
    gone = baton("schedules", "show", "s")
    assert gone.exit_code == 1
    assert "next:  baton schedules ls" in gone.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cron", "0 9 * *"], "has not the five fields"),
        (["--cron", "0 9 * * *", "--tz", "Berlin"], "there is no time zone 'Berlin'"),
        ([], "it needs either a cron expression or an interval"),
        (["--every", "100ms"], "is not like 30s"),
        (["--every", "0"], "every: 0 is not between 1"),
    ],
)
def test_nonsense_is_one_sentence_and_the_next_command(words: list[str], told: str) -> None:
    result = baton("schedules", "add", "s", "single", "1", *words)

    assert result.exit_code == 1
    assert told in result.stderr
    assert "next:  " in result.stderr


def test_a_run_may_start_later(bench: Bench) -> None:
    good("run", "single", "1", "--delay", "1h30m")
    then = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
    good("run", "single", "1", "--at", then.isoformat())

    (soon, _), (_, late) = bench.query(
        "SELECT extract(epoch FROM due_at - clock_timestamp())::float8, due_at FROM steps ORDER BY due_at"
    )
    assert soon == pytest.approx(5_400, abs=60)
    assert late.timestamp() == pytest.approx(then.timestamp(), abs=5)
