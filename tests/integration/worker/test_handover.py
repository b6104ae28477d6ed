"""A worker goes on with the next stage itself, where nothing else waits; to everybody else it looks like any step."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.messaging.broker import make_app
from orchestrator.places import Places
from orchestrator.store.schema import upgrade
from tests.agents import relays
from tests.integration.results.conftest import on_database
from tests.integration.worker.stack import Stack, ready
from tests.support import Databases, Processes, eventually

RELAY = ("here", "there", "in_turn")


@pytest.fixture
def alone(redis_url: str, databases: Databases, tmp_path: Path) -> Iterator[Stack]:
    url = databases.create(databases.template("migrated", upgrade))
    stack = Stack(Processes(tmp_path), url, on_database(redis_url, 7))
    stack.redis().flushdb()
    yield stack
    stack.close()
    databases.drop(url)


def published(stack: Stack) -> int:
    """Messages that were put into queues since the server started."""
    stats: Any = stack.redis().info("commandstats")
    return int(stats.get("cmdstat_lpush", {}).get("calls", 0))


def test_a_pipeline_on_an_idle_worker_takes_one_message(alone: Stack) -> None:
    alone.worker(*RELAY)
    alone.run(relays.relay, 0)
    before = published(alone)

    assert alone.run(relays.relay, 0) == 1

    assert published(alone) - before == 1


def test_an_agent_with_a_rate_limit_gets_its_steps_as_messages(alone: Stack) -> None:
    alone.worker(*RELAY)
    alone.run(relays.metered, 0)
    before = published(alone)

    assert alone.run(relays.metered, 0) == 1

    assert published(alone) - before == 2


def test_a_worker_never_has_more_under_way_than_its_concurrency(alone: Stack) -> None:
    alone.worker(*RELAY, concurrency=3)

    runs = alone.client.submit_many(relays.relay, [0] * 2)
    assert max(run.result(30) for run in runs) == 2
    runs = alone.client.submit_many(relays.relay, [0] * 20)

    assert max(run.result(60) for run in runs) == 3


def test_celery_sees_every_step(alone: Stack) -> None:
    # Given somebody who listens to the events of the workers
    ready(alone.begin("here", "there", extra=("-E",)))
    app = make_app(Places(alone.database_url, alone.broker_url))
    seen: defaultdict[str, list[str]] = defaultdict(list)
    listening = threading.Event()

    receivers: list[Any] = []

    def listen() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(
                connection, handlers={"*": lambda event: seen[event.get("uuid", "")].append(event["type"])}
            )
            receivers.append(receiver)
            for _ in receiver.itercapture(limit=None, timeout=None, wakeup=False):
                listening.set()

    listener = threading.Thread(target=listen)
    listener.start()
    assert listening.wait(30)

    run = alone.submit(relays.relay, 0)
    run.result(30)

    def complete() -> None:
        for path in range(5):
            kinds = [kind for kind in seen[f"{run.id}.{path}"] if kind != "task-sent"]
            assert kinds == ["task-received", "task-started", "task-succeeded"]

    eventually(complete, timeout=10)
    receivers[0].should_stop = True
    listener.join(10)
    assert not listener.is_alive()


def test_a_stage_without_a_message_survives_its_worker(alone: Stack, tmp_path: Path) -> None:
    # Given a stage that was claimed with the one before it, and now runs
    gate = tmp_path / "gate"
    victim = alone.worker("names", "held_up")
    before = published(alone)
    run = alone.submit(relays.guarded, str(gate))
    eventually(gate.with_suffix(".1").exists, timeout=30)
    assert published(alone) - before == 1

    # When its worker is killed
    victim.kill()
    alone.worker("names", "held_up")

    # Then it runs again elsewhere, and what came before does not
    eventually(gate.with_suffix(".2").exists, timeout=30)
    gate.touch()
    assert run.result(30) == 2
    assert alone.kinds(run, "0") == ["step.started", "step.done"]
