"""A producer that dies at any point leaves either no run or one that is executed: SIGKILL after every exchange with
Postgres and with Redis."""

from __future__ import annotations

import json
from uuid import uuid4

import psycopg
import pytest

from tests.agents.arithmetic import single
from tests.integration.worker.stack import Stack

# A parent that has imported everything forks one producer after the other. The n-th kills itself after its n-th
# exchange with a server, until one gets through.
PRODUCER = """
import json, os, signal, sys

import psycopg
from redis.connection import AbstractConnection

from orchestrator.client import Client
from tests.agents.arithmetic import mapped, single

verb, database, broker, label = sys.argv[1:]


def submit(number):
    labels = {"producer": label, "number": str(number)}
    with Client(database, broker) as client:
        if verb == "submit":
            client.submit(single, number, labels=labels, idempotency_key=f"{label} {number}")
        elif verb == "submit_many":
            client.submit_many(mapped, [number % 3, 0, 2], labels=labels)
        else:
            with psycopg.connect(database) as conn:
                conn.execute("INSERT INTO orders VALUES (%s, %s)", [label, number])
                client.submit_many(single, [number, number], labels=labels, connection=conn)


def die_at(exchange):
    left = [exchange]

    def counted(work):
        def call(*args, **kwargs):
            result = work(*args, **kwargs)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

    psycopg.Connection.wait = counted(psycopg.Connection.wait)
    AbstractConnection.send_packed_command = counted(AbstractConnection.send_packed_command)


number, code = 0, None
while code != 0:
    number += 1
    child = os.fork()
    if child == 0:
        die_at(number)
        submit(number)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
print(json.dumps({"producers": number, "deaths": number - 1}))
"""


@pytest.fixture(scope="module", autouse=True)
def orders(shared: Stack) -> None:
    """A table of the producers' own."""
    with psycopg.connect(shared.database_url) as conn:
        conn.execute("CREATE TABLE orders (label text, number int)")


def produce(stack: Stack, verb: str, label: str) -> dict[str, int]:
    arguments = (verb, stack.database_url, stack.broker_url, label)
    process = stack.processes.python(PRODUCER, *arguments, name="producer")
    assert process.wait(60) == 0, process.text()
    told: dict[str, int] = json.loads(process.text().splitlines()[-1])
    return told


def check(stack: Stack, label: str, runs_each: int) -> list[tuple[str, int]]:
    """Every run that is there ends well, and no producer left a part of its runs; (number, runs) of each."""
    runs = stack.client.runs(label=f"producer={label}", limit=1000)
    for run in runs:
        stack.client.result(run.id, 60)
    left: dict[str, int] = {}
    for run in runs:
        left[run.labels["number"]] = left.get(run.labels["number"], 0) + 1
    assert set(left.values()) <= {runs_each}
    orphans = "SELECT run_id FROM {} WHERE run_id NOT IN (SELECT id FROM runs)"
    for table in ("steps", "events", "idempotency_keys"):
        assert stack.query(orphans.format(table)) == []
    return sorted(left.items())


@pytest.mark.parametrize(
    ("verb", "runs_each"), [("submit", 1), ("submit_many", 3), ("submit on a connection", 2)]
)
def test_a_producer_killed_at_any_exchange_leaves_all_or_nothing(
    shared: Stack, verb: str, runs_each: int
) -> None:
    label = uuid4().hex

    told = produce(shared, verb, label)

    left = check(shared, label, runs_each)
    print(f"{verb}: {told}, {len(left)} left runs")
    assert told["deaths"] >= 10
    assert 0 < len(left) < told["producers"]
    if verb == "submit on a connection":
        orders = shared.query("SELECT number::text FROM orders WHERE label = %s", label)
        assert sorted(row[0] for row in orders) == sorted(number for number, _ in left)


def test_a_run_of_a_caller_starts_soon_after_the_commit(shared: Stack) -> None:
    waits = []
    with psycopg.connect(shared.database_url) as conn:
        for number in range(10):
            run = shared.client.submit(single, number, connection=conn)
            conn.commit()
            committed = shared.query("SELECT clock_timestamp()")[0][0]
            assert run.result(20) == number + 1
            started = next(e.at for e in shared.client.events(run.id) if e.kind == "step.started")
            waits.append((started - committed).total_seconds())

    print("seconds from the commit to the start:", *(f"{wait:.3f}" for wait in sorted(waits)))
    assert sorted(waits)[5] < 1  # a tenth on a quiet machine
