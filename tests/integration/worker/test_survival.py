"""Workers that are killed, drained or refused; servers that restart and forget; messages that are no messages."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from orchestrator.local.postgres import Postgres
from orchestrator.local.redis import Redis, redis_server
from orchestrator.store.schema import head, upgrade
from schemas.runs import RunState
from tests.agents import arithmetic, misbehaving
from tests.integration.worker.stack import Stack
from tests.support import Processes, eventually

# --- messages ---------------------------------------------------------------------------------------------


def message(task: str, args: Any, queue: str) -> dict[str, Any]:
    """A message as Celery puts it into Redis."""
    body = base64.b64encode(json.dumps([args, {}, {}]).encode()).decode()
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": f"odd-{time.time_ns()}",
            "root_id": None,
            "argsrepr": "",
        },
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 9,
            "body_encoding": "base64",
            "delivery_tag": f"tag-{time.time_ns()}",
        },
    }


QUEUE = "agent.increment"


def aside(stack: Stack, text: str) -> str:
    """The reason with which the worker sets aside what stands in its queue."""
    before = stack.query("SELECT coalesce(max(id), 0) FROM dead_letters")[0][0]
    with stack.redis() as client:
        client.lpush(QUEUE, text)

    def found() -> list[tuple[Any, ...]]:
        rows = stack.query("SELECT queue, reason FROM dead_letters WHERE id > %s", before)
        assert rows
        return rows

    ((queue, reason),) = eventually(found, timeout=15)
    assert queue == QUEUE
    return str(reason)


@pytest.mark.parametrize(
    ("task", "args", "reason"),
    [
        ("agent.nobody", [], "no agent here runs 'agent.nobody'"),
        (QUEUE, [1, 2], "its arguments are not (run id, step path, attempt)"),
        (QUEUE, ["not a uuid", "0"], "UUID"),
        (QUEUE, [], "its arguments are not"),
        (QUEUE, {"a": 1}, "its arguments are not"),
    ],
    ids=["unknown task", "wrong arguments", "no uuid", "no arguments", "an object"],
)
def test_a_message_that_names_no_step_is_set_aside_and_work_goes_on(
    shared: Stack, task: str, args: Any, reason: str
) -> None:
    assert reason in aside(shared, json.dumps(message(task, args, QUEUE)))
    assert shared.run(arithmetic.line, 1) == 11


ODD = {
    "broken body": json.dumps(message(QUEUE, [], QUEUE) | {"body": "!!"}),
    "pickle": json.dumps(message(QUEUE, [], QUEUE) | {"content-type": "application/x-python-serialize"}),
    "no headers": json.dumps(message(QUEUE, [], QUEUE) | {"headers": {}}),
    "no properties": json.dumps({"headers": {}}),
    "a list": "[]",
    "null": "null",
    "no JSON": "this is no JSON {",
    "bytes": "\x00\x01\x02",
}


def test_what_is_no_message_is_set_aside_and_work_goes_on(alone: Stack) -> None:
    alone.worker("increment", "double")
    for text in ODD.values():
        aside(alone, text)
        assert alone.run(arithmetic.line, 1) == 11


# --- deaths -----------------------------------------------------------------------------------------------


def test_the_run_of_a_killed_worker_goes_on_elsewhere(alone: Stack, tmp_path: Path) -> None:
    # Given a worker in the middle of a step, with more steps in its memory
    first = alone.worker("gated", "increment", concurrency=1)
    gate = tmp_path / "gate"
    runs = [alone.submit(misbehaving.gate, str(gate)) for _ in range(3)]
    eventually(lambda: (tmp_path / "gate.pids").exists(), timeout=20)

    # When it is killed, and there is another one
    second = alone.worker("gated", "increment", concurrency=4)
    first.kill()
    killed = time.monotonic()
    gate.touch()

    # Then all runs end there
    outputs = [run.result(60) for run in runs]
    print(f"all runs had ended {time.monotonic() - killed:.1f} s after the kill")
    assert sorted(outputs) == [2, 2, 3]
    assert sum(run.view().steps[0].losses for run in runs) == 1
    assert second.alive


def test_a_worker_that_is_told_to_end_finishes_what_it_runs(alone: Stack, tmp_path: Path) -> None:
    # Given a worker in the middle of a long step
    first = alone.worker("slow", "increment", concurrency=2)
    run = alone.submit(misbehaving.long_step, str(tmp_path / "log"))
    eventually(lambda: (tmp_path / "log").exists(), timeout=20)

    # When it is told to end while another one is there, and new work comes
    other = alone.worker("slow", "increment")
    first.signal(signal.SIGTERM)
    lines = alone.client.submit_many(arithmetic.single, range(20))

    # Then its step is executed once, by itself, and nothing is lost
    assert run.result(60) == "done"
    assert (tmp_path / "log").read_text() == "begun\nended\n"
    assert alone.kinds(run, "0") == ["step.started", "step.done"]
    assert [line.result(60) for line in lines] == list(range(1, 21))
    assert first.wait(30) == 0
    rows = alone.query("SELECT name FROM workers WHERE stopped_at IS NOT NULL")
    assert rows == [("threads1@localhost",)]
    assert other.alive


def test_a_killed_child_of_a_prefork_worker_costs_one_repetition(alone: Stack, tmp_path: Path) -> None:
    alone.worker("gated", "increment", pool="prefork", concurrency=2)
    gate = tmp_path / "gate"
    run = alone.submit(misbehaving.gate, str(gate))
    pids = gate.with_suffix(".pids")
    pid = int(eventually(lambda: pids.exists() and pids.read_text().strip(), timeout=20))

    os.kill(pid, signal.SIGKILL)
    gate.touch()

    assert run.result(60) == 3
    assert run.view().steps[0].losses == 1


# --- refusals ---------------------------------------------------------------------------------------------


def refused(stack: Stack, *args: str, **env: str) -> str:
    worker = stack.processes.worker(*args, env={**stack.env, **env})
    assert worker.wait(40) != 0
    text = worker.text()
    assert "Traceback" not in text
    return text


def test_a_worker_on_an_old_schema_ends_with_one_sentence(alone: Stack) -> None:
    with psycopg.connect(alone.database_url) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '0001'")

    text = refused(alone, "-Q", QUEUE)

    assert f"the database is at revision 0001, but this version needs revision {head()}" in text
    assert "next: baton db upgrade" in text


def test_a_worker_for_an_unknown_queue_ends_with_one_sentence(alone: Stack) -> None:
    text = refused(alone, "-Q", "agent.nobody")

    assert "no agent serves the queue 'agent.nobody'" in text
    assert "agent.increment" in text


def test_a_worker_without_an_app_ends_with_one_sentence(alone: Stack) -> None:
    text = refused(alone, "-Q", QUEUE, BATON_APP="")

    assert "BATON_APP is not set" in text


# --- servers ----------------------------------------------------------------------------------------------


class Servers:
    """A Postgres and a Redis that may be restarted."""

    def __init__(self, folder: Path) -> None:
        self.postgres = Postgres(folder)
        self.redis = Redis(folder)
        self.postgres.start()
        self.redis.start()

    def restart_postgres(self) -> None:
        self.postgres.stop()
        self.postgres.start()

    def restart_redis(self) -> None:
        """Empty, at the same port and with the same password."""
        url = urlsplit(self.redis.url)
        assert url.port is not None
        assert url.password is not None
        self.redis.stop()
        self.redis._start_at(redis_server(), url.port, url.password)
        port, password = url.port, url.password
        eventually(lambda: self.redis._comes_up(port, password, time.monotonic() + 1))

    def stop(self) -> None:
        self.redis.stop()
        self.postgres.stop()
        self.postgres.erase()


@pytest.fixture(scope="module")
def servers(session_dir: Path) -> Iterator[Servers]:
    folder = session_dir / "restarting"
    folder.mkdir(mode=0o711)
    made = Servers(folder)
    upgrade(made.postgres.url)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shaky(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Workers on servers that may be restarted."""
    processes = Processes(tmp_path_factory.mktemp("shaky"))
    stack = Stack(processes, servers.postgres.url, servers.redis.url)
    stack.worker("increment", "double", "count_to", "add_up", "add_what_is_there", "gated", concurrency=8)
    yield stack
    stack.close()


def in_flight(stack: Stack) -> list[tuple[Any, Any]]:
    """Runs that are under way, with what they will give."""
    runs: list[tuple[Any, Any]] = []
    runs += [(run, n * 4 + 7) for n, run in enumerate(stack.client.submit_many(arithmetic.line, range(60)))]
    runs += [
        (run, n * (n - 1)) for n, run in enumerate(stack.client.submit_many(arithmetic.mapped, range(30)))
    ]
    eventually(
        lambda: stack.query("SELECT count(*) > 5 FROM runs WHERE state = 'completed'")[0][0], timeout=20
    )
    return runs


@pytest.mark.parametrize("disturbance", ["flushall", "redis restarts", "postgres restarts", "both restart"])
def test_every_run_ends_although_a_server_forgets_or_restarts(
    shaky: Stack, servers: Servers, disturbance: str
) -> None:
    runs = in_flight(shaky)

    since = time.monotonic()
    if disturbance == "flushall":
        with redis.Redis.from_url(servers.redis.url) as client:
            client.flushall()
    if disturbance in ("redis restarts", "both restart"):
        servers.restart_redis()
    if disturbance in ("postgres restarts", "both restart"):
        servers.restart_postgres()

    assert [run.result(90) for run, _ in runs] == [expected for _, expected in runs]
    print(f"{disturbance}: all runs had ended after {time.monotonic() - since:.1f} s")
    # And nothing that was done was done again
    rows = shaky.query(
        "SELECT run_id, path FROM events WHERE kind = 'step.done' GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert rows == []


def test_an_outcome_waits_for_a_postgres_that_is_away(shaky: Stack, servers: Servers, tmp_path: Path) -> None:
    # Given a step that runs while Postgres goes away
    gate = tmp_path / "gate"
    run = shaky.submit(misbehaving.gate, str(gate))
    eventually(lambda: gate.with_suffix(".pids").exists(), timeout=20)
    servers.postgres.stop()

    # When it ends meanwhile, and Postgres comes back
    gate.touch()
    servers.postgres.start()

    # Then its outcome is kept: it was executed once
    assert run.result(60) == 2
    assert run.view().state is RunState.COMPLETED
    assert len(gate.with_suffix(".pids").read_text().split()) == 1


# --- order ------------------------------------------------------------------------------------------------


def test_an_urgent_run_overtakes_those_that_wait(alone: Stack) -> None:
    # Given runs that wait for a worker, the most urgent of them submitted last
    waiting = alone.client.submit_many(arithmetic.single, range(5))
    urgent = alone.submit(arithmetic.single, 9, priority=9)

    # When there is one that does one thing at a time
    alone.worker("increment", concurrency=1)
    for run in [*waiting, urgent]:
        run.result(40)

    # Then the urgent one was first
    ((first,),) = alone.query("SELECT run_id FROM steps ORDER BY started_at LIMIT 1")
    assert first == urgent.id
