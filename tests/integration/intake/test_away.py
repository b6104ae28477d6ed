"""What a producer sees of servers that go away and come back: errors of ours, or nothing at all."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from orchestrator.client import Client
from orchestrator.local.postgres import Postgres
from orchestrator.local.redis import Redis, free_port
from orchestrator.store.schema import upgrade
from schemas.errors import Unavailable
from tests.agents import arithmetic
from tests.integration.engine.bench import Bench
from tests.support import eventually

NOWHERE = "redis://127.0.0.1:{}/0"


@pytest.fixture(scope="module")
def server(session_dir: Path) -> Iterator[Postgres]:
    """A Postgres of these tests alone, which they may stop."""
    folder = session_dir / "away"
    folder.mkdir(mode=0o711)
    made = Postgres(folder)
    made.start()
    upgrade(made.url)
    yield made
    made.stop()
    made.erase()


@pytest.fixture
def client(server: Postgres, redis_url: str) -> Iterator[Client]:
    with Client(server.url, redis_url) as made:
        yield made


def _all_of(answer: Any) -> None:
    """A stream asks when it is read."""
    if inspect.isgenerator(answer):
        list(answer)


def test_every_verb_says_that_postgres_is_away_and_what_to_do(session_dir: Path) -> None:
    nobody = f"postgresql://baton@/baton?host={session_dir}&connect_timeout=2"
    given: dict[str, Any] = {
        "workflow": arithmetic.single,
        "input": 1,
        "inputs": [1],
        "handles": [],
        "run_id": uuid4(),
        "name": "hourly",
        "every": 60,
        "selection": None,
        "states": [],
        "from_step": "0",
        "step": "0",
        "at": 1,
        "id": 1,
        "value": 1,
        "by": "me",
        "runs": [uuid4()],
        "type": "order.paid",
        "payload": {},
    }
    # Verbs that do not speak with Postgres, or not by themselves
    quiet = {"close", "send", "select"}
    with Client(nobody, NOWHERE.format(free_port())) as client:
        verbs = [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_"]
        for name in sorted(set(verbs) - quiet):
            verb = getattr(client, name)
            wanted = inspect.signature(verb).parameters.values()
            arguments = {
                p.name: given[p.name]
                for p in wanted
                if p.name in given and (p.default is p.empty or p.name in ("every", "input"))
            }
            if name.endswith("_many") and name != "submit_many":
                arguments["workflow"] = "single"
            with pytest.raises(Unavailable, match=r"^Postgres cannot be reached: ") as told:
                _all_of(verb(**arguments))
            assert told.value.next_step == "baton doctor", name
            assert "\n" not in str(told.value)


def test_whoever_waits_for_a_run_waits_through_a_restart(client: Client, server: Postgres) -> None:
    # Given somebody who waits for the output of a run, and somebody who follows it
    run = client.submit(arithmetic.single, 1)
    seen: list[str] = []
    with ThreadPoolExecutor(2) as threads:
        output = threads.submit(run.result, 60)
        following = threads.submit(lambda: seen.extend(event.kind.value for event in run.stream()))
        eventually(lambda: seen == ["run.submitted", "step.opened"] or bool(seen))

        # When Postgres goes away and comes back, and the run ends
        server.stop()
        server.start()
        bench = Bench(server.url)
        bench.finish(bench.claim(run.id, "0"), 2)
        bench.close()

        # Then both go on as if nothing had been
        assert output.result(30) == 2
        following.result(30)
    assert seen[-1] == "run.completed"
    assert seen == [event.kind.value for event in run.stream()]


def test_connections_that_the_server_ends_cost_no_submission_and_make_no_second_one(
    client: Client, server: Postgres
) -> None:
    client.submit(arithmetic.single, 0)
    before = len(client.runs(limit=10_000))
    ended = threading.Event()

    def end_connections() -> None:
        with psycopg.connect(server.url_of("postgres"), autocommit=True) as conn:
            while not ended.wait(0.25):
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = 'baton' AND pid <> pg_backend_pid()"
                )

    with ThreadPoolExecutor(1) as saboteur:
        sabotage = saboteur.submit(end_connections)
        accepted = refused = 0
        for number in range(40):
            try:
                client.submit(arithmetic.single, number, idempotency_key=f"away-{number}")
                accepted += 1
            except Unavailable:
                refused += 1
        ended.set()
        sabotage.result(10)
    for number in range(40):
        client.submit(arithmetic.single, number, idempotency_key=f"away-{number}")

    print(f"{accepted} accepted, {refused} refused")
    assert accepted > 0
    assert len(client.runs(limit=10_000)) == before + 40


def test_a_run_is_accepted_while_the_broker_is_away_and_sent_when_it_is_back(
    server: Postgres, session_dir: Path
) -> None:
    # Given a broker that is away
    (session_dir / "away-broker").mkdir()
    redis = Redis(session_dir / "away-broker")
    redis.start()
    redis.stop()

    with Client(server.url, redis.url) as client:
        # When a run is submitted
        run = client.submit(arithmetic.single, 1)

        # Then it is there, and the timers of any worker send it
        bench = Bench(server.url)
        eventually(lambda: bench.fire() >= 1)
        assert run.id in {ready.run.id for ready in bench.messages}
        bench.finish(bench.claim(run.id, "0"), 2)
        assert run.result(5) == 2
        bench.close()
