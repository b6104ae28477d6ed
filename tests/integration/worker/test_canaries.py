"""An attack: a credential of its own is put wherever anybody can put one, and everything that can be seen is searched.

`ALLOWED` is the whole list of places where one may be found.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from celery import Celery
from psycopg import sql
from typer.testing import CliRunner

from orchestrator.cli.app import app as cli
from orchestrator.messaging.broker import shared_app
from orchestrator.places import Places
from schemas import RunState
from schemas.errors import BatonError
from schemas.settings import settings
from tests.agents import spilling
from tests.integration.worker.stack import Stack, ready
from tests.integration.worker.test_credentials import messages, with_password
from tests.integration.worker.test_submit_task import plain
from tests.integration.worker.test_timers import CeleryEvents
from tests.support import eventually
from workers.scripted import Asked, ScriptedProvider, call, refuse, text


def canary(door: str) -> str:
    """A credential that looks like one of GitHub's, by where it comes in."""
    return f"gh{'p'}_{hashlib.sha256(door.encode()).hexdigest()[:36]}"


OWN = "known-to-the-worker-alone"
"""Which looks like nothing; its environment has it."""

WAY_IN = "B0X1/way-in-for-whoever-knows-it"
"""The path of a webhook."""

HOOK = "signs-notices-for-whoever-is-told"

KNOWN = (OWN, HOOK, WAY_IN, "tr0ub4dor")
"""What the worker knows, of the password of its database the beginning."""

UNSEEN = "h0rse-battery"
"""Which looks like nothing either, and whom nobody knows: it is in messages that are not for Baton."""

INPUT = ("runs.input", "steps.input")
"""What a run is given, and the parts of it that its steps are given, is stored as it came: agents need it."""

ALLOWED = {
    "input": INPUT,
    "celery input": INPUT,
    "event": ("incoming_events.payload", *INPUT),  # and the runs that it starts
    "schedule": ("schedules.input", *INPUT),
}
"""By door, the columns in which its credential may be."""

DOORS = (*ALLOWED, "celery misfit", "celery workflow", "celery argument", "celery label", "celery key", "foreign",
         "garbage", "tenant", "label", "key", "event key", "by", "edited", "reason", "answer", "pause", "cancel",
         "hook")  # fmt: skip

LETTERS = 8
"""Messages that nobody understands."""

LISTINGS = (("runs", "ls"), ("dead", "ls"), ("approvals", "ls", "--all"), ("events", "ls"), ("schedules", "ls"),
            ("schedules", "show", "nightly"), ("pools",), ("subscriptions", "ls"), ("memory", "ls"),
            ("breakers", "ls"), ("costs",))  # fmt: skip


def columns(stack: Stack) -> Iterator[tuple[str, str]]:
    """All values of each column, as text."""
    whole = "SELECT coalesce(jsonb_agg(to_jsonb(t))::text, '[]') FROM {} t"
    for (table,) in stack.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows = json.loads(stack.query(sql.SQL(whole).format(sql.Identifier(table)))[0][0])
        for name in rows[0] if rows else ():
            yield f"{table}.{name}", json.dumps([row[name] for row in rows], ensure_ascii=False)


def allowed() -> set[tuple[str, str]]:
    return {(door, where) for door, places in ALLOWED.items() for where in places}


def at_work(stack: Stack) -> list[Any]:
    """Runs that go on, but for those that wait for ever, and what nobody has understood yet."""
    waiting = {("wait", RunState.RUNNING), ("hurry", RunState.RUNNING), ("hurry", RunState.QUEUED)}
    runs = [run for run in stack.client.runs(limit=100) if run.finished_at is None]
    going = [run for run in runs if (run.workflow, run.state) not in waiting]
    return [*going, *(["dead letters"] if len(stack.client.dead.list()) < LETTERS else [])]


def inspected(stack: Stack) -> dict[str, Any]:
    """What Flower asks of workers."""
    app = shared_app(Places(stack.database_url, stack.broker_url))
    asked = app.control.inspect(timeout=10, limit=1)
    return {name: getattr(asked, name)() for name in ("active", "conf", "reserved", "scheduled", "stats")}


def listings(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> str:
    """Whatever `baton` shows of all that, to people and to programs."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()

    def typed(*words: str) -> str:
        said = CliRunner().invoke(cli, words)
        assert said.exit_code == 0, said.output
        return said.output

    runs = json.loads(typed("runs", "ls", "--json", "--limit", "100"))
    said = [typed(*words) for words in LISTINGS]
    for workflow, run in {run["workflow"]: run["id"] for run in runs}.items():
        said += [typed("runs", "show", run, "--json"), typed("runs", "explain", run)]
        if workflow in ("look", "use"):
            said += [typed("runs", verb, run) for verb in ("show", "events", "tools")]
    letters = json.loads(typed("dead", "ls", "--json"))
    said += [typed("dead", "show", str(letter["id"])) for letter in letters]
    events = json.loads(typed("events", "ls", "--json"))
    said += [typed("events", "show", event["id"]) for event in events]
    settings.cache_clear()
    return " ".join([json.dumps(runs), *said])


class Doors:
    """Where somebody puts something in: each leaves its own canary."""

    def __init__(self, stack: Stack, program: Celery) -> None:
        self._stack = stack
        self._program = program
        self.said: list[str] = []
        """What whoever was refused was told."""

    def given(self, door: str) -> dict[str, Any]:
        it = canary(door)
        return {"secret": it, "extra": {"password": it}, "parts": [{"secret": it}]}

    def send(self, door: str, **arguments: Any) -> str:
        """With plain Celery, to what is there to take it; its id."""
        options = {"queue": "baton.submit", "argsrepr": "(...)", "kwargsrepr": "{...}"}  # as README says
        task = self._program.send_task("baton.submit", kwargs=arguments, **options)
        self.said.append(str(task.get(timeout=60, propagate=False)))
        return str(task.id)

    def refused(self, act: Any, *args: Any, **options: Any) -> None:
        with pytest.raises(BatonError) as error:
            act(*args, **options)
        self.said.append(f"{error.value} {error.value.next_step}")

    # --- each of them ---------------------------------------------------------------------------------------

    def celery(self) -> None:
        """Programs that have only Celery, and those that should not be there at all."""
        given = self.given("celery input")
        self.send("celery input", workflow="spill", input=given)
        self.send(
            "celery misfit",
            workflow="spill",
            input={"secret": [canary("celery misfit"), UNSEEN], "extra": UNSEEN},
        )
        self.send("celery workflow", workflow=canary("celery workflow"), input=UNSEEN)
        self.send("celery argument", workflow="spill", input=given, **{canary("celery argument"): UNSEEN})
        self.send("celery label", workflow="spill", input=given, labels={"key": canary("celery label")})
        self.send("celery key", workflow="spill", input=given, idempotency_key=canary("celery key"))
        foreign, stranger = canary("foreign"), plain(self._stack)
        for task in ("agent.spills", "billing.charge"):
            stranger.send_task(task, [foreign, UNSEEN], {"password": foreign}, queue="agent.spills")
        stranger.close()
        self._stack.redis().lpush("agent.spills", f"no message, but {canary('garbage')}")

    def client(self) -> None:
        """Programs and people who have Baton."""
        stack, given = self._stack, self.given("input")
        for definition in (spilling.spill, spilling.fail, spilling.decide, spilling.look, spilling.wait,
                           spilling.several, spilling.hurry, spilling.hurry, spilling.ask, spilling.use,
                           spilling.think):  # fmt: skip
            stack.submit(definition, given)
        for name, options in (
            ("tenant", {"tenant": canary("tenant")}),
            ("label", {"labels": {"customer": canary("label")}}),
            ("key", {"idempotency_key": canary("key")}),
        ):
            self.refused(stack.submit, spilling.spill, given, **options)
            assert canary(name) not in self.said[-1]
        stack.client.emit("token.came", self.given("event"), key=canary("event key"))
        stack.client.schedule("nightly", spilling.spill, self.given("schedule"), every=86_400)
        stack.client.schedules.fire("nightly")

    def people(self) -> None:
        """What people decide, and say of it."""
        client = self._stack.client
        waiting = {one.kind: one.id for one in client.approvals()}
        look, ask = waiting["approval"], waiting["question"]
        for door, act in (
            ("by", lambda: client.approve(look, by=canary("by"))),
            ("edited", lambda: client.approve(look, by="ann", payload=self.given("edited"))),
            ("reason", lambda: client.reject(look, by="ann", reason=canary("reason"))),
            ("answer", lambda: client.answer(ask, f"it is {canary('answer')}", by="ann")),
        ):
            self.refused(act)
            assert canary(door) not in self.said[-1]
        client.approve(look, by="ann")
        client.answer(ask, "no", by="ann")
        run = self._stack.submit(spilling.wait, self.given("input"))
        client.pause(run.id, reason=f"it was {canary('pause')}")
        client.cancel(run.id, reason=f"it was {canary('cancel')}")


def script(asked: Asked) -> Any:
    """A model that says what it was asked, and tells tools, until it is refused."""
    secret = canary("input")
    turns = [
        call("lookup", query=secret),
        call("spiller_tell", text=f"{secret} {OWN}"),
        call("spiller_refuse", text=secret),
        text(f"It was {secret}, {OWN}."),
        refuse(401, f"Incorrect API key provided: {OWN}, for {secret}"),
    ]
    return turns[min(asked.turn, len(turns) - 1)]


@pytest.fixture
def program(alone: Stack) -> Iterator[Celery]:
    app = plain(alone)
    app.conf.task_send_sent_event = True
    yield app
    app.backend.close()
    app.close()


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(script) as made:
        yield made


def test_a_credential_is_where_it_may_be_and_nowhere_else(
    alone: Stack, program: Celery, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {
        "BATON_APP": "tests.agents.spilling",
        "BATON_DATABASE_URL": with_password(alone.database_url),
        "BATON_NOTIFY": f"{provider.url}/services/{WAY_IN}/{canary('hook')},tests.agents.spilling:told",
        "BATON_NOTIFY_SECRET": "whsec_" + base64.b64encode(HOOK.encode()).decode(),
        "SPILLED_TOKEN": OWN,
        "SPILLED_DATABASE_URL": with_password(alone.database_url),
        "SPILLED_ADDRESS": provider.url.removeprefix("http://"),
        "TEST_PROVIDER": provider.url,
    }
    # Given a worker whose agents tell all they are given, and whoever watches it as Flower does
    agents = ("spills", "fails", "echoes", "limited", "asks", "uses", "thinks")
    worker = ready(alone.begin(*agents, "baton.submit", extra=("-E", "-l", "DEBUG"), **env))
    doors = Doors(alone, program)
    with CeleryEvents(alone) as events:
        # When credentials come in by every door
        doors.celery()
        doors.client()
        eventually(lambda: len(alone.client.approvals()) == 2 or False, timeout=60)
        doors.people()
        eventually(lambda: not at_work(alone), timeout=60)
        family = psutil.Process(worker.pid)
        told = {
            **dict(columns(alone)),
            "redis": messages(alone),
            "the log": worker.text(),
            "Celery's events": str(events.heard),
            "celery inspect": str(inspected(alone)),
            "processes": str([one.cmdline() for one in (family, *family.children(recursive=True))]),
            "errors": " ".join(doors.said),
            "baton": listings(monkeypatch, env | alone.env),
        }

    # Then each is where it may be, and nowhere else
    found = {(door, where) for where, said in told.items() for door in DOORS if canary(door) in said}
    assert found - allowed() == set()
    assert {door for door, _ in found} == set(ALLOWED)
    assert [where for where, said in told.items() if any(one in said for one in KNOWN)] == []
    assert [where for where, said in told.items() if UNSEEN in said] == ["dead_letters.message", "baton"]
    # And all of them came as far as that
    assert {"task-sent", "task-received", "task-retried", "task-failed"} <= {
        event["type"] for event in events.heard
    }
    for where in (
        "attempts.error",
        "events.data",
        "the log",
        "journal.value",
        "tool_calls.arguments",
        "baton",
    ):
        assert "<secret:github>" in told[where], where
