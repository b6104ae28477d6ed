"""The doors through which what a worker knows could get out: Celery's events, logs, pipes of children, the doctor."""

from __future__ import annotations

import logging
import subprocess
import sys
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from rich.console import Console

from orchestrator.cli.errors import tell
from orchestrator.doctor.finding import fail
from orchestrator.local.lines import Lines
from orchestrator.masking import logs
from orchestrator.masking.masker import as_key
from orchestrator.messaging.broker import make_app
from orchestrator.places import Places
from schemas.errors import Conflict
from tests.support import eventually
from workers.guards.pipes import logged

TOKEN = f"gh{'p'}_{'16C7e42F292c6912' * 3}"


class Told:
    """A producer of messages that keeps them."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def publish(self, message: dict[str, Any], **_: Any) -> None:
        self.messages.append(message)


def test_celery_tells_no_monitor_what_a_task_was_given_or_failed_with() -> None:
    app = Celery(broker="memory://", set_as_current=False)
    app.events_cls = "workers.guards.celery_events:DiscreetEvents"
    told = Told()
    with app.connection_for_write() as connection:
        dispatcher = app.events.Dispatcher(connection, hostname="me", enabled=False)
        dispatcher.enabled, dispatcher.producer = True, told
        dispatcher.send("task-failed", uuid="1", exception=f"ValueError({TOKEN!r})", runtime=0.5)
        dispatcher.publish("task-sent", {"uuid": "2", "kwargs": f"{{'password': {TOKEN!r}}}"}, told)
    app.close()

    failed, sent = told.messages
    assert (failed["type"], failed["exception"], failed["runtime"]) == (
        "task-failed",
        "ValueError('<secret:github>')",
        0.5,
    )
    assert (sent["uuid"], sent["kwargs"]) == ("2", "{'password': '<secret:github>'}")


def test_celery_hands_no_log_the_arguments_of_a_task() -> None:
    context = {"id": "1", "args": "(1,)", "kwargs": "{}", "exc": f"ValueError({TOKEN!r})"}
    logger = logging.getLogger("celery.app.trace")
    record = logger.makeRecord("x", 40, "f", 1, "%(id)s %(exc)s", (context,), None, extra={"data": context})

    assert logger.filter(record)

    assert (record.getMessage(), record.__dict__["data"]) == (
        "1 ValueError('<secret:github>')", {"id": "1", "exc": "ValueError('<secret:github>')"}
    )  # fmt: skip


def test_what_processes_say_is_shown_without_secrets() -> None:
    console = Console(file=StringIO())
    Lines(console).show("agent.a", f"it says {TOKEN}")
    assert console.file.getvalue() == "agent.a | it says <secret:github>\n"  # type: ignore[attr-defined]


def test_results_of_baton_s_own_tasks_hold_none(migrated: str) -> None:
    app = make_app(Places(migrated, "memory://"))
    task = uuid4().hex
    app.backend.store_result(
        task, ValueError(f"not with {TOKEN}"), "FAILURE", traceback=f"in line 1: {TOKEN}"
    )

    kept = app.AsyncResult(task)
    assert (str(kept.result), kept.traceback) == ("not with <secret:github>", "in line 1: <secret:github>")
    app.backend.close()
    app.close()


def test_what_a_child_says_is_logged_line_by_line(caplog: pytest.LogCaptureFixture) -> None:
    code = f"import sys; print('one', '{TOKEN}', file=sys.stderr); print('two', file=sys.stderr)"
    with logged("a child") as pipe:
        subprocess.run([sys.executable, "-c", code], stderr=pipe, check=True)

    def said() -> None:
        assert [record.getMessage() for record in caplog.records] == [f"a child: one {TOKEN}", "a child: two"]

    eventually(said)
    assert logs.DiscreetRecords(logging.LogRecord)(
        "x", 30, "f", 1, "%s", (caplog.messages[0],), None
    ).getMessage() == "a child: one <secret:github>"  # fmt: skip


def test_what_things_go_by_is_the_same_for_the_same_and_tells_no_credential() -> None:
    assert as_key("order 7") == "order 7"
    assert as_key(TOKEN) == as_key(TOKEN) != as_key(f"{TOKEN}x")
    assert as_key(TOKEN).startswith("<credential> ")
    assert TOKEN[-10:] not in as_key(TOKEN)


def test_errors_and_findings_tell_none(monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr("sys.stderr", written)

    tell(Conflict(f"not with {TOKEN}", next_step=f"try postgresql://me:{TOKEN[5:12]}@host/base"))
    found = fail(
        "postgres",
        f"password {TOKEN} is wrong",
        "set BATON_DATABASE_URL=postgresql://user:password@host/name",
    )

    assert "not with <secret:github>\n" in written.getvalue()
    assert "try postgresql://me:<secret:url>@host/base\n" in written.getvalue()
    assert found.sentence == "password <secret:github> is wrong"
    assert found.fix == "set BATON_DATABASE_URL=postgresql://user:password@host/name"
