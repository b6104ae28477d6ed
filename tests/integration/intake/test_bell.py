"""Whoever waits for a run is woken by its end, and finds it without being woken, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from orchestrator.client import Client
from orchestrator.definitions.vocabulary import workflow
from orchestrator.local.redis import Redis
from orchestrator.messaging import bell
from orchestrator.messaging.bell import Bell, ring
from tests.integration.engine.bench import Bench, done, named
from tests.support import eventually

FLOW = workflow("w", named("a"))


@pytest.fixture
def listener(broker: str) -> Iterator[Bell]:
    made = Bell(broker)
    yield made
    made.close()


def rung(broker: str, run: UUID, times: int = 1) -> None:
    with redis.Redis.from_url(broker) as client:
        ring(client, [run] * times)


def waited(wait: bell.Wait | None, seconds: float) -> float:
    """Seconds until it returned."""
    assert wait is not None
    began = time.monotonic()
    wait(seconds)
    return time.monotonic() - began


def test_a_call_wakes_whoever_listens_for_this_run(listener: Bell, broker: str) -> None:
    run = uuid4()
    with listener.listening(run) as wait:
        rung(broker, run)
        assert waited(wait, 20) < 10


def test_a_call_for_another_run_wakes_nobody(listener: Bell, broker: str) -> None:
    with listener.listening(uuid4()) as wait:
        rung(broker, uuid4())
        assert waited(wait, 0.2) >= 0.2


def test_a_connection_that_is_used_again_has_forgotten_the_run_before(listener: Bell, broker: str) -> None:
    first, second = uuid4(), uuid4()
    with listener.listening(first):
        rung(broker, first, times=3)
    with listener.listening(second) as wait:
        rung(broker, first)
        assert waited(wait, 0.2) >= 0.2
        rung(broker, second)
        assert waited(wait, 20) < 10
    assert listener._used == 1


def test_only_so_many_listen_at_a_time(listener: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bell, "MOST", 1)
    with listener.listening(uuid4()) as first, listener.listening(uuid4()) as second:
        assert first is not None
        assert second is None


def test_a_broker_that_goes_away_meanwhile_leaves_the_wait_as_long_as_it_was(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    server.start()
    listener = Bell(server.url)
    with listener.listening(uuid4()) as wait:
        server.stop()
        assert waited(wait, 0.3) >= 0.3
    with listener.listening(uuid4()) as wait:
        assert wait is None
    assert listener._used == 0


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://guest@127.0.0.1:1//"])
def test_where_nobody_can_be_woken_results_are_found_all_the_same(
    migrated: str, bench: Bench, url: str
) -> None:
    with Client(migrated, url) as client:
        run = bench.submit(FLOW, 7)
        ending = threading.Timer(0.3, lambda: bench.drain())
        ending.start()
        assert client.result(run, 20) == 7
        ending.join()


def test_a_long_wait_asks_postgres_a_few_times_only(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody who waits for a run
    looks = []
    end = client._views.end
    monkeypatch.setattr(client._views, "end", lambda run: (looks.append(run), end(run))[1])
    run = bench.submit(FLOW, 7)
    answers: list[object] = []
    waiting = threading.Thread(target=lambda: answers.append(client.result(run, 30)))
    waiting.start()
    eventually(lambda: len(looks) >= 4)

    # When it ends, and they are told
    (recorded,) = bench.engine.record_all([done(bench.claim(run, "0"), 7)])
    assert recorded.ended == (run,)
    client._dispatcher.announce(recorded.ended)

    # Then they have looked at the beginning, twice a second, and at the end
    waiting.join(20)
    assert answers == [7]
    assert len(looks) < 15
