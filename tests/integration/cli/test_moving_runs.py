"""`baton runs cancel|pause|resume` and `baton dead`, as they are typed, on a real database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli.app import app
from orchestrator.client import Client
from orchestrator.definitions.vocabulary import workflow
from orchestrator.engine import Pointer
from schemas.settings import settings
from tests.integration.engine.bench import Bench, named

SHOUTING, REFUSING = (workflow(name, named(name)) for name in ("shouting", "refusing"))
Baton = Callable[..., Result]


@pytest.fixture
def baton(migrated: str, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Baton]:
    """Types a command, and expects this exit code."""
    monkeypatch.setenv("BATON_DATABASE_URL", migrated)
    monkeypatch.setenv("BATON_BROKER_URL", broker)
    settings.cache_clear()

    def typed(*words: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    yield typed
    settings.cache_clear()


@pytest.fixture
def client(migrated: str, broker: str) -> Iterator[Client]:
    with Client(migrated, broker) as made:
        yield made


def told(result: Result) -> Any:
    return json.loads(result.stdout)


# --- runs -------------------------------------------------------------------------------------------------


def test_named_runs_are_moved_one_by_one(baton: Baton, client: Client) -> None:
    first, second = (str(client.submit(SHOUTING, "x").id) for _ in range(2))

    assert baton("runs", "pause", first, "--reason", "lunch").stdout == f"{first} was paused.\n"
    both = baton("runs", "pause", first, second, code=1)

    # What can be done is done, and what cannot is an error
    assert both.stdout == f"{second} was paused.\n"
    assert f"run {first} is paused: only a run that is going on can be paused" in both.stderr
    assert f"next:  baton runs show {first}" in both.stderr
    assert told(baton("runs", "resume", "last", "--json")) == {"resumed": [second], "refused": []}
    shown = baton("runs", "show", first).stdout
    assert "! paused: lunch" in shown
    assert f"! let it go on: baton runs resume {first}" in shown
    assert "lunch" in baton("runs", "ls", "--state", "paused").stdout
    assert baton("runs", "cancel", first, second).exit_code == 0


def test_runs_are_moved_by_label_and_by_workflow(baton: Baton, client: Client) -> None:
    ours = [
        str(client.submit(definition, "x", labels={"batch": "7"}).id)
        for definition in (SHOUTING, SHOUTING, REFUSING)
    ]
    client.submit(SHOUTING, "x")

    paused = told(baton("runs", "pause", "--label", "batch=7", "--json"))["paused"]
    resumed = told(baton("runs", "resume", "--label", "batch=7", "--workflow", "shouting", "--json"))[
        "resumed"
    ]

    assert paused == ours
    assert resumed == ours[:2]
    assert [run["id"] for run in told(baton("runs", "ls", "--state", "paused", "--json"))] == ours[2:]
    assert baton("runs", "pause", "--tenant", "nobody").stdout == "No run was paused.\n"


def test_many_are_cancelled_only_after_a_word(baton: Baton, client: Client) -> None:
    ours = [str(run.id) for run in client.submit_many(SHOUTING, ["x"] * 30)]

    refused = baton("runs", "cancel", "--workflow", "shouting", code=1)
    assert "30 runs would be cancelled, which cannot be undone" in refused.stderr
    assert "next:  say so with --yes" in refused.stderr
    assert {run.state for run in client.runs()} == {"queued"}

    done = baton("runs", "cancel", "--workflow", "shouting", "--yes", "--reason", "enough")
    assert done.stdout == "30 runs were cancelled.\n"
    view = client.run(client.runs()[0].id)
    assert view.error is not None
    assert view.error.message == "enough"
    assert len(ours) == len(client.runs())


def test_which_runs_must_be_said_in_one_way(baton: Baton) -> None:
    for words in (["runs", "cancel"], ["runs", "pause", "last", "--workflow", "x"]):
        assert "Either name runs, or say which" in baton(*words, code=2).stderr


def test_runs_that_stay_as_they_are_are_counted(baton: Baton, client: Client, bench: Bench) -> None:
    runs = [client.submit(SHOUTING, "x").id for _ in range(2)]
    _set_aside(bench, runs[0])
    client.pause(runs[1])

    done = baton("runs", "resume", "--workflow", "shouting")

    assert done.stdout == f"{runs[1]} was resumed.\n"
    assert "1 stayed as they were; the first: run" in done.stderr
    assert "has a step that was set aside, 0" in done.stderr


# --- dead letters -----------------------------------------------------------------------------------------


def _set_aside(bench: Bench, run: Any) -> None:
    for _ in range(3):
        bench.claim(run, "0")
        bench.engine.release(Pointer(run, "0"))


def test_a_step_that_was_set_aside_is_listed_shown_and_retried(
    baton: Baton, client: Client, bench: Bench
) -> None:
    assert baton("dead", "ls").stdout == "Nothing is set aside.\n"
    run = client.submit(SHOUTING, "x").id
    _set_aside(bench, run)
    (letter,) = told(baton("dead", "ls", "--json"))
    number = str(letter["id"])

    table = baton("dead", "ls").stdout
    shown = baton("dead", "show", number)
    state = baton("runs", "show", str(run)).stdout

    for part in (number, f"step 0 of {run}", "shouting", "it lost its worker 3 times", "open"):
        assert part in table
    assert shown.stdout.count(" lost  ") == 3
    assert f"next:  baton dead retry {number}" in shown.stderr
    assert "☠ shouting agent.shouting dead" in state
    assert f"see: baton dead show {number}" in state
    assert f"next:  baton dead retry {number}" in baton("runs", "resume", str(run), code=1).stderr

    assert "was retried.\n" in baton("dead", "retry", number).stdout
    assert client.run(run).state == "running"
    again = baton("dead", "retry", number, "4711", code=1).stderr
    assert f"dead letter {number} was retried already" in again
    assert "there is no dead letter 4711" in again


def test_all_steps_that_share_the_fate_of_one_are_retried_together(
    baton: Baton, client: Client, bench: Bench
) -> None:
    runs = [client.submit(SHOUTING, "x").id for _ in range(3)]
    for run in runs:
        _set_aside(bench, run)
    bench.engine.set_aside("agent.shouting", "it is no message", '"x"')

    done = baton("dead", "retry", "--all")

    assert done.stdout.count("was retried.") == 3
    assert {run.state for run in client.runs()} == {"running"}
    assert [letter.run_id for letter in client.dead.list()] == [None]
    assert baton("dead", "retry", "--all").stdout == "Nothing is set aside.\n"
    assert "Either name dead letters" in baton("dead", "retry", code=2).stderr


def test_a_message_is_shown_as_it_came_and_dropped(baton: Baton, bench: Bench) -> None:
    bench.engine.set_aside("agent.shouting", "its arguments are not a step", '{"args": [1], "kwargs": {}}')
    (letter,) = told(baton("dead", "ls", "--json"))
    number = str(letter["id"])

    shown = baton("dead", "show", number)
    refused = baton("dead", "retry", number, code=1).stderr
    dropped = baton("dead", "drop", number)

    assert "message · open" in shown.stdout
    assert '"args": [' in shown.stdout
    assert "cannot be sent again: its arguments are not those of a step" in refused
    assert f"next:  baton dead drop {number}" in refused
    assert dropped.stdout == f"{number}, message, was dropped.\n"
    assert told(baton("dead", "ls", "--json")) == []
    assert told(baton("dead", "ls", "--all", "--json"))[0]["settled"] == "dropped"
