"""The command line as a person uses it: `baton up` in one terminal, everything else in another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from orchestrator.local.servers import current
from tests.support import Process, Processes, eventually

BATON = (sys.executable, "-c", "from orchestrator.cli import main; main()")
APP = "app_of_the_test"
SOURCE = """
from pydantic import BaseModel

from orchestrator import each, fan_out, workflow
from schemas import Permanent, Retry
from workers import agent


class Note(BaseModel):
    text: str


@agent
def words(note: Note) -> list[str]:
    return note.text.split()


@agent
def shout(word: str) -> str:
    return word.upper()


@agent(retry=Retry(max=0))
def refuse(note: Note) -> Note:
    raise Permanent("this cannot be done")


shouting = workflow("shouting", words >> each(shout))
refusing = workflow("refusing", refuse)
"""


class Terminal:
    """A second terminal beside a running stack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BATON_")},
            "BATON_DATA_DIR": str(folder / "data"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def __call__(
        self, *words: str, given: str = "", code: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*BATON, *words],
            input=given,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.env,
            timeout=60,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str) -> object:
        return json.loads(self(*words, "--json").stdout)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Process]]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / f"{APP}.py").write_text(SOURCE)
    terminal = Terminal(folder)
    processes = Processes(folder)
    try:
        up = processes.start(
            *BATON, "up", "--app", APP, "--no-flower", name="up", env=terminal.env, cwd=folder
        )
        eventually(lambda: "In another terminal" in up.text(), 30)
        eventually(lambda: terminal("pools", "ls", code=None).stdout.count("agent.") == 3, 30)
        yield terminal, up
    finally:
        processes.end_all()


@pytest.fixture
def baton(started: tuple[Terminal, Process]) -> Terminal:
    return started[0]


def test_the_stack_takes_in_what_a_celery_program_submits(baton: Terminal) -> None:
    urls = current(Path(baton.env["BATON_DATA_DIR"]))
    assert urls is not None
    program = Celery(broker=urls.broker_url, set_as_current=False)
    program.conf.result_backend = f"orchestrator.results:Backend+{urls.database_url}"
    kwargs = {"workflow": "shouting", "input": {"text": "from afar"}}

    run_id = program.send_task("baton.submit", kwargs=kwargs, queue="baton.submit").get(timeout=30)

    done = baton("runs", "watch", run_id)
    assert json.loads(done.stdout) == {"results": ["FROM", "AFAR"], "gaps": []}
    program.backend.close()
    program.close()


def test_a_text_becomes_the_input_and_the_output_is_all_that_stdout_holds(baton: Terminal) -> None:
    done = baton("run", "shouting", "be loud", "--watch")

    assert json.loads(done.stdout) == {"results": ["BE", "LOUD"], "gaps": []}
    assert "run.completed" in done.stderr


def test_input_from_json_a_file_and_a_pipe(baton: Terminal) -> None:
    (baton.folder / "in.json").write_text('{"text": "file"}')

    for words, given in ((['{"text": "json"}'], ""), (["@in.json"], ""), (["-"], "pipe")):
        done = baton("run", "shouting", *words, "--watch", "--json", given=given)
        assert json.loads(done.stdout)["state"] == "completed"


def test_without_watch_the_id_is_printed_and_the_run_can_be_followed(baton: Terminal) -> None:
    done = baton("run", "shouting", "later", "--label", "team=legal", "--tenant", "acme", "--priority", "9")
    run_id = done.stdout.strip()

    events = [json.loads(line) for line in baton("runs", "watch", run_id, "--json").stdout.splitlines()]

    assert f"baton runs watch {run_id}" in done.stderr
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["kind"] == "run.completed"
    (listed,) = baton.json("runs", "ls", "--label", "team=legal", "--tenant", "acme")  # type: ignore[misc]
    assert (listed["id"], listed["priority"]) == (run_id, 9)


def test_one_key_never_starts_a_second_run(baton: Terminal) -> None:
    first, second = (baton("run", "shouting", "once", "--key", "k1").stdout for _ in range(2))
    assert first == second


def test_show_draws_the_tree_and_finds_a_run_by_the_beginning_of_its_id(baton: Terminal) -> None:
    run_id = baton("run", "shouting", "a b", "--watch", "--json").stdout
    run_id = json.loads(run_id)["id"]

    shown = baton("runs", "show", run_id).stdout
    last = baton("runs", "show", "last").stdout

    assert "✔ words agent.words done" in shown
    assert "each done · 2/2 done" in shown
    assert '"BE"' not in shown
    assert '"A"' in shown
    assert run_id in last
    assert "baton runs ls" in baton("runs", "show", "zzzz", code=1).stderr


def test_a_failed_run_says_why_and_what_next_and_can_be_resumed_and_cancelled(baton: Terminal) -> None:
    failed = baton("run", "refusing", "x", "--watch", code=1)
    run_id = baton.json("runs", "ls", "--workflow", "refusing", "--limit", "1")[0]["id"]  # type: ignore[index]

    assert failed.stdout == ""
    assert f"baton runs resume {run_id}" in failed.stderr
    assert "Permanent: this cannot be done" in baton("runs", "show", run_id).stdout
    assert "failed" in baton("runs", "ls", "--state", "failed").stdout
    baton("runs", "resume", run_id, "--watch", code=1)
    baton("runs", "cancel", run_id, "--reason", "enough", code=None)


def test_a_run_is_shown_as_it_was_after_any_event(baton: Terminal) -> None:
    run_id = json.loads(baton("run", "shouting", "one two", "--watch", "--json").stdout)["id"]

    events = baton.json("runs", "events", run_id)
    number = next(e["number"] for e in events if e["kind"] == "step.opened")  # type: ignore[attr-defined]
    assert f"{number}  " in baton("runs", "events", run_id).stdout
    shown = baton("runs", "show", run_id, "--at", str(number)).stdout
    told = baton.json("runs", "show", run_id, "--at", str(number))

    assert f"event {number} of {len(events)}" in shown  # type: ignore[arg-type]
    assert "each open · 0/2 done, 2 ready" in shown
    assert '["one", "two"]' in shown
    assert told["state"] == "running"  # type: ignore[index]
    assert told["outputs"] == {"0": ["one", "two"]}  # type: ignore[index]
    assert baton.json("runs", "show", run_id, "--at", events[-1]["at"])["state"] == "completed"  # type: ignore[index]
    assert "runs events" in baton("runs", "show", run_id, "--at", "99", code=1).stderr


def test_a_run_is_forked_with_another_input_and_keeps_what_was_done(baton: Terminal) -> None:
    run_id = json.loads(baton("run", "shouting", "be loud", "--watch", "--json").stdout)["id"]

    done = baton("runs", "fork", run_id, "--from", "1/1", "--input", "quiet", "--watch", "--json")
    made = baton.json("runs", "fork", run_id, "--from", "1/1")

    view = json.loads(done.stdout)
    assert view["output"] == {"results": ["BE", "QUIET"], "gaps": []}
    assert {step["path"]: step["attempt"] for step in view["steps"]} == {"0": 0, "1": 0, "1/0": 0, "1/1": 1}
    assert (made["forked_from"], made["forked_at"]) == (run_id, "1/1")  # type: ignore[index]
    assert f"forked from {run_id} at step 1/1" in baton("runs", "show", view["id"]).stdout
    assert view["id"] in baton("runs", "show", run_id).stdout
    for words in (["--from", "7"], ["--from", "1/9"], ["--from", "1", "--input", "[1]"]):
        assert "next:  baton runs" in baton("runs", "fork", run_id, *words, code=1).stderr


def test_a_watch_says_that_a_run_is_paused(started: tuple[Terminal, Process], processes: Processes) -> None:
    baton, _ = started
    run_id = baton("run", "shouting", "x", "--delay", "3600").stdout.strip()
    watching = processes.start(*BATON, "runs", "watch", run_id, name="watch", env=baton.env, cwd=baton.folder)
    eventually(lambda: "run.submitted" in watching.text(), 20)

    baton("runs", "pause", run_id, "--reason", "lunch")

    eventually(lambda: "! paused: lunch" in watching.text(), 20)
    eventually(lambda: f"! let it go on: baton runs resume {run_id}" in watching.text(), 20)
    baton("runs", "cancel", run_id)
    assert watching.wait() == 1


def test_an_input_that_does_not_fit_is_refused_at_the_door(baton: Terminal) -> None:
    refused = baton("run", "shouting", '{"txt": 1}', code=1)
    assert "text" in refused.stderr
    assert "baton plan" in refused.stderr


def test_a_misspelt_workflow_is_answered_with_the_right_one(baton: Terminal) -> None:
    assert "did you mean 'shouting'?" in baton("run", "shoutin", "x", code=1).stderr


def test_pools_and_workers_are_listed_and_scaled(baton: Terminal) -> None:
    baton("pools", "scale", "shout=2")

    def two() -> None:
        pools = {pool["agent"]: pool["workers"] for pool in baton.json("pools", "ls")}  # type: ignore[attr-defined]
        assert pools == {"words": 1, "shout": 2, "refuse": 1}

    eventually(two, 30)
    assert baton("workers").stdout.count("shout-") == 2
    assert "There is no pool for the agent nobody" in baton("pools", "scale", "nobody=1", code=1).stderr


def test_workflows_and_their_plans_are_known_without_the_app(baton: Terminal) -> None:
    assert {one["name"] for one in baton.json("workflows", "ls")} == {"shouting", "refusing"}  # type: ignore[attr-defined]
    assert "agent calls  10,001" in baton("plan", "shouting").stdout


def test_the_doctor_is_content(baton: Terminal) -> None:
    findings = baton.json("doctor", "--app", APP)
    assert {finding["level"] for finding in findings} == {"ok"}  # type: ignore[attr-defined]


def test_the_tables_are_up_to_date(baton: Terminal) -> None:
    assert "up to date" in baton("db", "upgrade").stdout
    version = baton.json("db", "version")
    assert version["revision"] == version["head"]  # type: ignore[index]


def test_a_second_stack_in_the_same_folder_is_refused(baton: Terminal) -> None:
    assert "already running" in baton("up", "--app", APP, code=1).stderr


def test_an_interrupted_watch_leaves_the_run_going(
    started: tuple[Terminal, Process], processes: Processes
) -> None:
    baton, _ = started
    baton("pools", "scale", "refuse=0")
    watching = processes.start(
        *BATON, "run", "refusing", "x", "--watch", name="watch", env=baton.env, cwd=baton.folder
    )
    eventually(lambda: "run.submitted" in watching.text(), 20)

    watching.signal(signal.SIGINT)

    assert watching.wait() == 130
    assert "The run goes on: baton runs watch" in watching.text()
    baton("runs", "cancel", "last", "--reason", "tidy")
    baton("pools", "scale", "refuse=1")


def test_zz_one_interrupt_stops_everything(started: tuple[Terminal, Process]) -> None:
    """The last test of this file, for nothing runs afterwards."""
    baton, up = started

    up.signal(signal.SIGINT)

    assert up.wait(40) == 0
    assert "Everything has stopped." in up.text()
    assert "baton up" in baton("runs", "ls", code=1).stderr
