"""The commands as they are typed: help, wrong use, errors, and what needs no server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest
from rich.text import Text
from typer.testing import CliRunner, Result

from orchestrator.cli import runs
from orchestrator.cli.app import app
from orchestrator.cli.errors import told_to_people
from orchestrator.cli.output import ago, print_hanging, took
from orchestrator.cli.processes import worker_arguments
from orchestrator.cli.up import required, stack_of, without_password
from orchestrator.loading import load
from schemas.errors import SchemaOutdated, Unavailable
from schemas.runs import RunState
from schemas.settings import settings
from schemas.workflows import Workflow
from tests.unit.cli import apps
from tests.unit.cli.views import NOW, START
from workers.drain import GRACE

APP = "tests.unit.cli.apps"
COMMANDS = [
    "up", "demo", "worker", "flower", "run", "plan", "doctor", "runs", "runs ls", "runs show", "runs watch",
    "runs events", "runs fork", "runs explain", "runs tools", "runs cancel", "runs pause", "runs resume",
    "tools", "tools ls", "costs", "budgets", "budgets set", "budgets ls", "budgets rm", "breakers", "breakers ls",
    "breakers reset", "memory", "memory ls", "memory search", "memory forget",
    "dead", "dead ls", "dead show", "dead retry", "dead drop",
    "eval", "eval run", "eval route", "workflows", "workflows ls", "workflows show", "pools", "pools ls",
    "pools scale", "workers", "workers ls", "db", "db upgrade", "db version", "db prune", "schedules", "schedules add",
    "schedules ls", "schedules show", "schedules pause", "schedules resume", "schedules rm", "schedules fire",
]  # fmt: skip


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An environment that names no server and no app, restored afterwards."""
    for name in [name for name in os.environ if name.startswith("BATON_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BATON_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BATON_APP", "")
    settings.cache_clear()
    yield
    settings.cache_clear()


def baton(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=given)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = baton(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_commands_that_look_stand_before_those_that_act() -> None:
    names = [command.name for command in runs.app.registered_commands]
    assert names.index("tools") < names.index("fork")


def test_help_waits_for_nothing_heavy() -> None:
    """A subprocess, because this one has imported everything by now."""
    heavy = {"celery", "kombu", "sqlalchemy", "psycopg", "redis", "pydantic", "alembic", "rich.live"}
    program = (
        "import sys\n"
        "from orchestrator.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "ls"], ["runs", "show", "last"], ["runs", "show", "last", "--at", "3"], ["runs", "events", "last"],
        ["runs", "fork", "last", "--from", "0"], ["runs", "watch", "last"], ["runs", "cancel", "last"],
        ["runs", "resume", "last"], ["pools"], ["pools", "ls"], ["workers", "ls"], ["workflows", "ls"],
        ["runs", "pause", "--workflow", "line"], ["dead", "ls"], ["dead", "retry", "1"],
        ["plan", "line"], ["run", "line"], ["run", "line", "--app", APP, "hello"], ["db", "upgrade"],
        ["schedules", "ls"], ["schedules", "rm", "s"], ["schedules", "add", "s", "line", "--app", APP, "--every", "5m"],
        ["db", "version"], ["db", "prune", "--older-than", "1d"], ["pools", "scale", "draft=2"],
        ["worker", "draft", "--app", APP], ["flower"], ["runs", "tools", "last"], ["costs"], ["budgets", "ls"],
        ["budgets", "set", "all", "--usd", "5"], ["breakers", "ls"], ["breakers", "reset", "tool search"],
        ["memory", "ls"], ["memory", "forget", "1"],
    ],
)  # fmt: skip
def test_without_servers_the_next_command_is_up(words: list[str]) -> None:
    result = baton(*words)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "next:  baton up" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plan", "lime", "--app", APP], "There is no workflow 'lime'; did you mean 'line'?"),
        (["plan", "line", "--app", "no_such_app"], "There is no module 'no_such_app'"),
        (["run", "line", "--app", APP, "--label", "x"], "'x' is not NAME=VALUE"),
        (["run", "line", "--app", APP, "@no-file"], "The input file 'no-file' cannot be read"),
        (["run", "line", "--app", APP, '{"text"'], "it is not JSON"),
        (["run", "line", "--app", APP, "--delay", "soon"], "'soon' is not like 30s, 5m, 1h30m or 2d"),
        (["run", "line", "--app", APP, "--delay", "-1"], "'-1' is not like 30s, 5m, 1h30m or 2d"),
        (["run", "line", "--app", APP, "--at", "tomorrow"], "'tomorrow' is not like 2027-01-31T09:00"),
        (["run", "line", "--app", APP, "--at", "2020-01-01T09:00Z"], "2020-01-01T"),
        (
            ["run", "line", "--app", APP, "--at", "2050-01-01", "--delay", "5"],
            "it cannot stand beside --delay",
        ),
        (
            ["schedules", "add", "s", "line", "--app", APP, "--every", "x"],
            "'x' is not like 30s, 5m, 1h30m or 2d",
        ),
        (["worker", "nobody", "--app", APP], "There is no agent 'nobody'; there are: check, draft"),
        (["up", "--app", "no_such_app"], "There is no module 'no_such_app'"),
        (["runs", "show", "last", "--at", "noon"], "'noon' is neither the number of an event nor a time"),
        (["runs", "fork", "last", "--from", "0", "--input", "@no-file"], "'no-file' cannot be read"),
    ],
)
def test_an_error_is_one_sentence_and_the_next_command(words: list[str], sentence: str) -> None:
    result = baton(*words)

    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "next:  " in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["nothing"], ["runs", "shwo"], ["runs", "fork", "last"], ["runs", "events"], ["run"],
        ["pools", "scale", "draft"], ["pools", "scale", "draft=many"],
        ["run", "line", "--priority", "10"], ["schedules", "add", "s"],
        ["runs", "ls", "--state", "odd"], ["runs", "ls", "--limit", "0"],
        ["worker"], ["worker", "draft", "--pool", "gevent"],
        ["dead", "show", "x"], ["dead", "drop"], ["runs", "resume", "--workflow", "line", "--watch"],
    ],
)  # fmt: skip
def test_wrong_use_is_explained_with_code_2(words: list[str]) -> None:
    result = baton(*words)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_a_misspelt_command_is_answered_with_the_right_one() -> None:
    assert "Did you mean 'show'?" in baton("runs", "shwo").stderr


def test_debug_shows_the_traceback() -> None:
    result = baton("--debug", "plan", "lime", "--app", APP)
    assert result.exit_code == 1
    assert "There is no workflow 'lime'" in result.stderr


def test_a_wrong_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_HEARTBEAT", "often")
    result = baton("runs", "ls")
    assert "The environment is wrong: BATON_HEARTBEAT: Input should be a valid number" in result.stderr


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(app: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.loading.load", interrupted)
    result = baton("plan", "line", "--app", APP)
    assert (result.exit_code, result.output) == (130, "")


def test_what_nobody_expected_is_still_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(app: str) -> None:
        raise TypeError("two\nlines")

    monkeypatch.setattr("orchestrator.loading.load", broken)
    result = baton("plan", "line", "--app", APP)
    assert result.exit_code == 1
    assert "Baton did not expect this: TypeError: two\n" in result.stderr


def test_lost_servers_and_missing_tables_have_their_sentences() -> None:
    import kombu.exceptions
    import psycopg
    import redis.exceptions

    for error in (
        psycopg.OperationalError("gone"),
        kombu.exceptions.OperationalError("gone"),
        redis.exceptions.ConnectionError("gone"),
    ):
        told = told_to_people(error)
        assert isinstance(told, Unavailable)
        assert told.next_step == "baton doctor"
    assert isinstance(told_to_people(psycopg.errors.UndefinedTable("no")), SchemaOutdated)


def test_plan_for_people() -> None:
    result = baton("plan", "line", "--app", APP)

    assert result.exit_code == 0
    for part in (
        "line, version 1",
        "agent calls  2",
        "attempts     4",
        "0.5 USD, 1000 tokens",
        "flowchart TD",
    ):
        assert part in result.stdout


def test_plan_for_programs() -> None:
    facts = json.loads(baton("plan", "many", "--app", APP, "--json").stdout)

    assert facts["bounds"]["calls"] == 102
    assert facts["bounds"]["timeout"] == 1000
    assert facts["queues"] == ["agent.split", "agent.draft", "agent.merge"]
    assert facts["input_schema"]["properties"]["text"]["type"] == "string"


def test_plan_as_a_chart() -> None:
    assert baton("plan", "line", "--app", APP, "--mermaid").stdout.startswith("flowchart TD\n")


def test_workflows_of_an_app() -> None:
    table = baton("workflows", "ls", "--app", APP)
    assert [line.split()[0] for line in table.stdout.splitlines()] == [
        "WORKFLOW",
        "line",
        "many",
        "plain",
        "wide",
    ]
    named = json.loads(baton("workflows", "ls", "--app", APP, "--json").stdout)
    assert [one["name"] for one in named] == ["line", "many", "plain", "wide"]
    assert named[0]["id"] == apps.line.id
    assert "body" not in named[0]


def test_a_whole_definition_can_be_loaded_again() -> None:
    shown = baton("workflows", "show", "wide", "--app", APP)
    assert Workflow.model_validate_json(shown.stdout) == apps.wide


def test_the_version_is_that_of_the_package() -> None:
    assert baton("--version").stdout == f"baton {version('baton-agents')}\n"


def test_a_line_that_goes_on_is_indented_deeper(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as Rich can tell
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    print_hanging(Text("  one two three four five six seven eight"))
    assert capsys.readouterr().out.splitlines() == ["  one two three four", "      five six seven eight"]


def test_a_pipe_folds_nothing(capsys: Any) -> None:
    print_hanging(Text("word " * 60))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_worker_is_the_celery_command_that_people_know() -> None:
    arguments = worker_arguments([apps.draft.spec, apps.check.spec], 8, "prefork")
    assert arguments[:3] == ("worker", "--queues", "agent.draft,agent.check,baton.submit")
    assert "--concurrency 8" in " ".join(arguments)
    assert "--pool prefork" in " ".join(arguments)


def test_without_a_number_the_worker_asks_its_agents() -> None:
    assert "--concurrency" not in worker_arguments([apps.draft.spec], None, "threads")


def test_the_drain_time_of_a_worker_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    environments: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda _, __, env: environments.append(env))
    monkeypatch.setenv("BATON_DATABASE_URL", "postgresql://nowhere/x")
    monkeypatch.setenv("BATON_BROKER_URL", "redis://nowhere/0")
    monkeypatch.setenv("BATON_DRAIN_SECONDS", "30")  # so that it is put back

    baton("worker", "draft", "--app", APP, "--drain", "120")

    assert [float(env["BATON_DRAIN_SECONDS"]) for env in environments] == [120]


def test_a_local_stack_leaves_its_workers_time_to_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_DRAIN_SECONDS", "7")
    settings.cache_clear()

    stack = stack_of(load(APP), flower=False)

    assert stack.supervisor.drain > 7 + 2 * GRACE


def test_the_states_on_the_command_line_are_those_of_a_run() -> None:
    assert set(get_args(runs.State)) == {str(state) for state in RunState}


def test_times_in_few_characters() -> None:
    assert [took(s) for s in (0.04, 9.94, 59, 119, 600, 90000)] == [
        "0.0 s", "9.9 s", "59 s", "119 s", "10 min", "25.0 h",
    ]  # fmt: skip
    assert ago(START, NOW) == "90 s ago"


def test_passwords_are_not_shown() -> None:
    assert without_password("redis://:secret@host:6379/0") == "redis://:***@host:6379/0"
    assert without_password("postgresql://baton@/baton?host=/run") == "postgresql://baton@/baton?host=/run"


def test_which_workflows_need_an_input() -> None:
    assert required(apps.line)
    assert required(apps.plain)
