"""What a rolling deploy costs: every worker replaced in turn, as `docker compose up` does it, under a steady load."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import agents
from benchmarks.compare import Servers
from benchmarks.scenarios import Load
from benchmarks.sides import PATIENCE, Worker
from orchestrator.client import Client
from orchestrator.store import schema

Conn = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Phase:
    """What the runs saw that were submitted in one stretch of time."""

    title: str
    seconds: float
    runs: int
    lost: int
    """Runs that never ended."""
    failed: int
    p50: float
    """Milliseconds from the submission of a run to its end."""
    p99: float
    slowest: float
    longest_pause: float
    """Milliseconds between two steps that ended one after the other, whichever they were."""


@dataclass(frozen=True)
class Deploy:
    """A roll beside the quiet time before it."""

    load: Load
    quiet: Phase
    roll: Phase
    handed_back: int
    """Long steps that a leaving worker gave to the others."""
    takeover: float
    """Milliseconds until such a step ran again, the longest."""
    losses: int
    """Steps that were counted as lost with their worker; a deploy should have none."""
    exits: float
    """Seconds from SIGTERM to a worker's end, the longest."""


def measure_deploy(servers: Servers, load: Load, folder: Path) -> Deploy:
    """Replace every worker once while runs come in."""
    schema.upgrade(servers.database_url)
    with ExitStack() as stack:
        fleet = Fleet(servers, load, folder)
        stack.callback(fleet.stop)
        client = stack.enter_context(Client(servers.database_url, servers.broker_url))
        conn = stack.enter_context(psycopg.connect(servers.database_url, autocommit=True))
        fleet.start()
        for run in client.submit_many(agents.pipeline, [0] * 20):
            run.result(PATIENCE)
        begun = _now(conn)
        with _steady(client, load):
            time.sleep(load.quiet)
            rolled = _now(conn)
            with _long_steps(client, load):
                exits = fleet.roll()
            ended = _now(conn)
        _await_all(conn)
        handed_back, takeover = conn.execute(_TAKEN_OVER).fetchone() or (0, None)
        (losses,) = conn.execute(_LOSSES).fetchone() or (0,)
        return Deploy(
            load,
            _phase(conn, "quiet", begun, rolled),
            _phase(conn, "roll", rolled, ended),
            handed_back,
            float(takeover or 0),
            losses,
            max(exits),
        )


class Fleet:
    """Worker processes that all serve the same agents."""

    def __init__(self, servers: Servers, load: Load, folder: Path) -> None:
        self._load = load
        self._folder = folder
        self._database_url = servers.database_url
        self._env = {
            "BATON_DATABASE_URL": servers.database_url,
            "BATON_BROKER_URL": servers.broker_url,
            "BATON_APP": agents.__name__,
            "BATON_DRAIN_SECONDS": str(load.drain),
        }
        self._workers: list[Worker] = []
        self._started = 0

    def start(self) -> None:
        """Start all, and return when they beat."""
        self._workers = [self._begin() for _ in range(self._load.workers)]
        self._await_beats()

    def roll(self) -> list[float]:
        """End and replace one after the other; the seconds that each took to end."""
        exits = []
        for index, worker in enumerate(self._workers):
            since = time.monotonic()
            worker.stop(self._load.drain + 30)
            exits.append(time.monotonic() - since)
            self._workers[index] = self._begin()
            self._await_beats()
        return exits

    def stop(self) -> None:
        for worker in self._workers:
            worker.stop(self._load.drain + 30)

    def _begin(self) -> Worker:
        self._started += 1
        queues = ",".join(agent.spec.queue for agent in (*agents.STAGES, agents.long))
        arguments = ("-c", "8", "-Q", queues, "-n", f"deploy{self._started}@%h")
        return Worker("workers.app", arguments, self._env, self._folder / f"deploy{self._started}.log")

    def _await_beats(self) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as conn:
            deadline = time.monotonic() + PATIENCE
            while (conn.execute(_ALIVE).fetchone() or (0,))[0] < self._load.workers:
                assert time.monotonic() < deadline, "the workers did not come up"
                time.sleep(0.05)


@contextmanager
def _steady(client: Client, load: Load) -> Iterator[None]:
    """Pipelines at a constant rate while this block lasts."""
    with _repeatedly(1 / load.rate, lambda: client.submit(agents.pipeline, 0)):
        yield


@contextmanager
def _long_steps(client: Client, load: Load) -> Iterator[None]:
    """Long steps, always some of them under way."""
    with _repeatedly(load.long / (2 * load.workers), lambda: client.submit(agents.lasting, load.long)):
        yield


@contextmanager
def _repeatedly(interval: float, act: Callable[[], object]) -> Iterator[None]:
    ended = threading.Event()
    errors: list[BaseException] = []

    def repeat() -> None:
        due = time.monotonic()
        try:
            while not ended.wait(max(0.0, due - time.monotonic())):
                act()
                due += interval
        except BaseException as error:  # noqa: BLE001  raised again below
            errors.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]


def _now(conn: Conn) -> datetime:
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def _await_all(conn: Conn) -> None:
    """Give every run a minute to end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not conn.execute("SELECT FROM runs WHERE finished_at IS NULL LIMIT 1").rowcount:
            return
        time.sleep(0.1)


def _phase(conn: Conn, title: str, since: datetime, until: datetime) -> Phase:
    keys = {"since": since, "until": until, "workflow": agents.pipeline.name}
    runs = conn.execute(_RUNS, keys).fetchall()
    took = sorted(ms for _, ms in runs if ms is not None) or [0.0]
    (pause,) = conn.execute(_PAUSE, keys).fetchone() or (None,)
    return Phase(
        title,
        (until - since).total_seconds(),
        len(runs),
        sum(ms is None for _, ms in runs),
        sum(ms is not None and state != "completed" for state, ms in runs),
        statistics.median(took),
        took[int(0.99 * (len(took) - 1))],
        took[-1],
        pause or 0.0,
    )


_ALIVE = "SELECT count(*) FROM workers WHERE stopped_at IS NULL AND lease_until > clock_timestamp()"

_RUNS = """
SELECT state, 1000 * extract(epoch FROM finished_at - created_at)::float8 FROM runs
WHERE workflow = %(workflow)s AND created_at >= %(since)s AND created_at < %(until)s
"""

_PAUSE = """
WITH ended AS (
    SELECT finished_at - lag(finished_at) OVER (ORDER BY finished_at) AS gap FROM steps
    WHERE kind = 'agent' AND finished_at >= %(since)s AND finished_at < %(until)s
)
SELECT 1000 * extract(epoch FROM max(gap))::float8 FROM ended
"""

# From the moment a step was handed back to its next start.
_TAKEN_OVER = """
SELECT count(*), 1000 * max(extract(epoch FROM again.at - back.at))::float8
FROM events back, LATERAL (
    SELECT at FROM events WHERE run_id = back.run_id AND path = back.path AND kind = 'step.started' AND id > back.id
    ORDER BY id LIMIT 1
) again
WHERE back.kind = 'step.released'
"""

_LOSSES = "SELECT count(*) FROM events WHERE kind = 'step.lost'"
