"""How late timers fire while their worker is busy, and what an idle worker's looks at them cost."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from benchmarks import agents
from benchmarks.scenarios import Sizes
from benchmarks.sides import PATIENCE, Baton
from orchestrator.clock.timers import TURN
from orchestrator.store.timer_queries import SELECT_DUE
from schemas.workflows import Workflow

Conn = psycopg.Connection[tuple[Any, ...]]

AHEAD = 2.0
"""Seconds before the first timer is due."""


@dataclass(frozen=True)
class Lateness:
    """Milliseconds between the moment when timers of one kind were due and the one when they fired."""

    title: str
    timers: int
    p50: float
    p99: float
    most: float


@dataclass(frozen=True)
class Looks:
    """What it costs to look whether anything is due, and to find nothing."""

    per_second: float
    """Looks of a fleet of one worker that has nothing to do."""
    milliseconds: float
    """Of Postgres, for one look."""
    pages: int


def measure_lateness(side: Baton, sizes: Sizes, database_url: str) -> tuple[list[Lateness], Looks]:
    """Timers of every kind, spread over some seconds, first beside nothing and then beside pipelines."""
    found = []
    with psycopg.connect(database_url, autocommit=True) as conn:
        looks = _look(conn, sizes)
        found += _fire(side, sizes, conn, "an idle worker")
        with _loaded(side, sizes):
            found += _fire(side, sizes, conn, "a loaded worker")
    return found, looks


def _fire(side: Baton, sizes: Sizes, conn: Conn, where: str) -> list[Lateness]:
    runs = {
        kind: _submitted(side, workflow, sizes.timers // len(_KINDS))
        for kind, (workflow, _) in _KINDS.items()
    }
    every = [run for ids in runs.values() for run in ids]
    _await_all(conn, _DUE, every)
    conn.execute(
        _SPREAD.format(table="steps", key="run_id"), {"runs": every, "ahead": AHEAD, "over": sizes.over}
    )
    conn.execute(_SPREAD.format(table="runs", key="id"), {"runs": every, "ahead": AHEAD, "over": sizes.over})
    due = _moments(conn, _DUE, every)
    time.sleep(AHEAD + sizes.over)
    made = []
    for kind, (_, statement) in _KINDS.items():
        ids = runs[kind]
        fired = _await_all(conn, statement, ids)
        made.append(
            _lateness(f"{kind}, {where}", [1000 * (fired[run] - due[run]).total_seconds() for run in ids])
        )
    return made


def _submitted(side: Baton, workflow: Workflow, count: int) -> list[UUID]:
    delay = 3600.0 if workflow is agents.single else None
    return [handle.id for handle in side.client.submit_many(workflow, [0] * count, delay=delay)]


def _moments(conn: Conn, statement: Any, runs: list[UUID]) -> dict[UUID, datetime]:
    return dict(conn.execute(statement, {"runs": runs}).fetchall())


def _await_all(conn: Conn, statement: Any, runs: list[UUID]) -> dict[UUID, datetime]:
    """The moments that a statement yields, once it has one for each of these runs."""
    until = time.monotonic() + PATIENCE
    while len(found := _moments(conn, statement, runs)) < len(runs):
        assert time.monotonic() < until, "the timers did not come"
        time.sleep(TURN)
    return found


def _lateness(title: str, late: list[float]) -> Lateness:
    late = sorted(late)
    return Lateness(title, len(late), statistics.median(late), late[int(0.99 * (len(late) - 1))], late[-1])


def _look(conn: Conn, sizes: Sizes) -> Looks:
    before, begun = _scans(conn), time.monotonic()
    time.sleep(sizes.over)
    per_second = (_scans(conn) - before) / _SCANS / (time.monotonic() - begun)
    plans: list[Any] = []
    for _ in range(50):
        ((answer,),) = conn.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT json) " + SELECT_DUE, {"self": None})
        plans.append(answer[0])
    took = statistics.median(plan["Execution Time"] for plan in plans)
    top = plans[-1]["Plan"]
    return Looks(per_second, took, top["Shared Hit Blocks"] + top["Shared Read Blocks"])


_SCANS = 2
"""Scans of the index of schedules that one look makes."""


def _scans(conn: Conn) -> int:
    """Scans so far; sessions tell them about once a second."""
    time.sleep(1.5)
    (found,) = conn.execute(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'schedules_due'"
    ).fetchone() or (0,)
    return int(found)


@contextmanager
def _loaded(side: Baton, sizes: Sizes) -> Iterator[None]:
    """Pipelines come as fast as the worker can run them, while this block lasts."""
    stopped = threading.Event()

    def load() -> None:
        while not stopped.is_set():
            side.pipelines(min(40, sizes.pipelines))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


_DUE = """
SELECT run_id, due_at FROM steps WHERE run_id = ANY (%(runs)s) AND due_at IS NOT NULL
UNION ALL SELECT id, due_at FROM runs WHERE id = ANY (%(runs)s) AND due_at IS NOT NULL
"""

# In random order, so that every kind is spread over the whole time.
_SPREAD = """
UPDATE {table} t SET due_at = clock_timestamp() + make_interval(secs => %(ahead)s + %(over)s * random())
WHERE {key} = ANY (%(runs)s) AND due_at IS NOT NULL
"""

_SENT = "SELECT run_id, ready_at FROM steps WHERE run_id = ANY (%(runs)s) AND path = '0' AND due_at IS NULL"

_KINDS: dict[str, tuple[Workflow, Any]] = {
    "delayed starts": (agents.single, _SENT),
    "retries": (agents.retried, _SENT),
    "deadlines of fan-outs": (
        agents.halved,
        "SELECT run_id, ready_at FROM steps WHERE run_id = ANY (%(runs)s) AND path = '0/join'",
    ),
    "deadlines of runs": (
        agents.limited,
        "SELECT run_id, at FROM events WHERE run_id = ANY (%(runs)s) AND kind = 'run.failed'",
    ),
}
