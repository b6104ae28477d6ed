"""Agents that take their process with them each time: three losses, and the others work on."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.client import RunHandle
from orchestrator.engine import Engine, Pointer, WorkerId
from orchestrator.engine.values import WorkerBeat
from orchestrator.messaging.canvas import task_id
from orchestrator.store.connect import Pool
from orchestrator.store.schema import upgrade
from schemas.errors import Conflict
from schemas.runs import RunState
from tests.agents import arithmetic, misbehaving
from tests.integration.results.conftest import on_database
from tests.integration.worker.stack import Stack, ready
from tests.integration.worker.test_survival import message
from tests.support import Databases, Processes, eventually


class QuickStack(Stack):
    """Workers that are missed soon."""

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "BATON_HEARTBEAT": "0.4", "BATON_LEASE": "1.6"}


@pytest.fixture
def quick(redis_url: str, databases: Databases, tmp_path: Path) -> Iterator[Stack]:
    url = databases.create(databases.template("migrated", upgrade))
    stack = QuickStack(Processes(tmp_path), url, on_database(redis_url, 7))
    stack.redis().flushdb()
    yield stack
    stack.close()
    databases.drop(url)


def is_paused(stack: Stack) -> bool:
    return bool(stack.client.runs(state=RunState.PAUSED))


def is_set_aside(stack: Stack, run: RunHandle, path: str) -> None:
    """The step cost three workers, no more, and its run says so."""
    view = run.view()
    (step,) = [one for one in view.steps if one.path == path]
    assert (step.state, step.losses, step.attempt) == ("dead", 3, 3)
    assert stack.kinds(run, path) == ["step.started", "step.lost"] * 3 + ["step.dead"]
    (letter,) = stack.client.dead.list()
    assert view.pause_reason == f"step {path} lost its worker 3 times; see: baton dead show {letter.id}"
    assert [one.state for one in stack.client.dead.show(letter.id).attempts] == ["lost"] * 3


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_an_agent_that_kills_its_child_process_is_set_aside_after_three(alone: Stack, how: str) -> None:
    # Given a prefork worker that has other runs to do
    alone.worker("fatal", "increment", "double", pool="prefork", concurrency=2)
    run = alone.submit(misbehaving.poisonous, how)
    others = alone.client.submit_many(arithmetic.line, range(20))

    # When one of its agents takes its child with it, again and again
    eventually(lambda: is_paused(alone), timeout=60)

    # Then that is set aside after three, and the others know nothing of it
    is_set_aside(alone, run, "0")
    assert [other.result(60) for other in others] == [4 * n + 7 for n in range(20)]
    assert alone.query("SELECT sum(losses) FROM steps WHERE run_id <> %s", run.id) == [(0,)]
    # and it does not come back by itself
    assert run.view().steps[0].attempt == 3


def test_an_agent_that_kills_its_worker_is_set_aside_after_three(quick: Stack) -> None:
    # Given workers of threads, each of which is replaced when it dies
    agents = ("fatal", "increment", "double")
    workers = [quick.begin(*agents, concurrency=2) for _ in range(4)]
    for worker in workers:
        ready(worker)
    others = quick.client.submit_many(arithmetic.line, range(20))
    run = quick.submit(misbehaving.poisonous, "kill")
    others += quick.client.submit_many(arithmetic.line, range(20, 40))

    # When one agent kills its worker again and again
    eventually(lambda: is_paused(quick), timeout=60)

    # Then it has cost three, and the one that is left does the rest
    is_set_aside(quick, run, "0")
    assert sum(not worker.alive for worker in workers) == 3
    assert [other.result(60) for other in others] == [4 * n + 7 for n in range(40)]
    # A new worker does not run it either; one that is told to, does, and it costs the next worker
    quick.client.dead.retry(quick.client.dead.list()[0].id)
    eventually(lambda: not any(worker.alive for worker in workers), timeout=30)


# --- messages ---------------------------------------------------------------------------------------------


def letter_of(stack: Stack, text: str, queue: str) -> int:
    """The dead letter that becomes of a message."""
    before = stack.query("SELECT coalesce(max(id), 0) FROM dead_letters")[0][0]
    with stack.redis() as client:
        client.lpush(queue, text)
    rows = eventually(lambda: stack.query("SELECT id FROM dead_letters WHERE id > %s", before) or False)
    return int(rows[0][0])


def test_a_message_is_sent_again_when_somebody_serves_it(alone: Stack) -> None:
    # Given the message of a step that came to workers of another agent
    alone.worker("increment")
    run = alone.submit(arithmetic.doubled, 4)
    pointer = message("agent.nobody_yet", [str(run.id), "0", 1], "agent.increment")
    letter = letter_of(alone, json.dumps(pointer), "agent.increment")

    # When it is retried while nobody serves it, then it stays where it is
    with pytest.raises(Conflict, match=r"no worker serves agent\.nobody_yet now") as refused:
        alone.client.dead.retry(letter)
    assert refused.value.next_step == "baton worker nobody_yet"
    assert [one.id for one in alone.client.dead.list()] == [letter]

    # When a worker does, then it is sent to its queue, once
    pool = Pool(alone.database_url)
    worker = WorkerId(uuid4(), "new")
    Engine(pool, worker).beat(WorkerBeat(worker, ("agent.nobody_yet",), 1, "threads", lease=60), 0)
    alone.client.dead.retry(letter)
    with pytest.raises(Conflict, match="was retried already"):
        alone.client.dead.retry(letter)
    assert alone.client.dead.list() == []
    with alone.redis() as client:
        (sent,) = [json.loads(text) for key in client.keys("agent.nobody_yet*") for text in _all(client, key)]
    assert sent["headers"]["id"] == task_id(Pointer(run.id, "0"))
    assert json.loads(base64.b64decode(sent["body"]))[0] == [str(run.id), "0", 1]
    pool.close()


def _all(client: Any, key: bytes) -> list[bytes]:
    return list(client.lrange(key, 0, -1))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps(message("agent.increment", [1, 2], "agent.increment")), "not those of a step"),
        (json.dumps(message("agent.nobody", [1, 2], "agent.increment")), "not those of a step"),
        ("this is no JSON {", "it is no message of a task"),
        (json.dumps({"headers": {}}), "it is no message of a task"),
        (
            json.dumps(message("agent.increment", [], "agent.increment") | {"headers": {}}),
            "it is no message of a task",
        ),
    ],
    ids=["wrong arguments", "unknown and wrong", "no JSON", "no body", "no task"],
)
def test_what_nobody_could_ever_run_can_only_be_dropped(shared: Stack, text: str, reason: str) -> None:
    letter = letter_of(shared, text, "agent.increment")

    with pytest.raises(Conflict, match=reason) as refused:
        shared.client.dead.retry(letter)
    assert refused.value.next_step == f"baton dead drop {letter}"
    shown = shared.client.dead.show(letter)
    assert shown.queue == "agent.increment"
    assert shown.message
    assert shown.attempts == ()

    shared.client.dead.drop(letter)
    assert shared.client.dead.show(letter).settled == "dropped"


def test_a_foreign_task_goes_back_to_its_queue(shared: Stack) -> None:
    # It is set aside again, for it is still foreign; another worker of that queue might have known it
    letter = letter_of(
        shared, json.dumps(message("shop.ship_order", [7], "agent.increment")), "agent.increment"
    )
    before = time.time()

    shared.client.dead.retry(letter)

    again = eventually(lambda: next((d for d in shared.client.dead.list() if d.id > letter), False))
    assert not isinstance(again, bool)
    assert again.reason == "no agent here runs 'shop.ship_order'"
    assert again.at.timestamp() > before
    shared.client.dead.drop(again.id)
