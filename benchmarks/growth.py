"""Whether a step costs the same however many steps its run has, and however many lie in the tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from benchmarks.scenarios import Sizes
from benchmarks.sides import Baton
from orchestrator.prune import Pruner, Removed, Rule

ENOUGH = 300
"""Steps that one measurement takes at least, in as many runs as it needs."""

OLD = 2.0
"""Seconds since a run ended after which it is pruned."""


@dataclass(frozen=True)
class Growth:
    """What one step cost in runs of some size; milliseconds."""

    title: str
    milliseconds: float
    cpu: float
    postgres: float


def measure_growth(side: Baton, sizes: Sizes, database_url: str) -> Iterator[Growth]:
    """One run of each size, then small runs again after finished ones were laid into the tables."""
    for size in sizes.growth:
        yield _measure(side, f"{size:,} steps in a run", size)
    if sizes.history:
        size = sizes.growth[len(sizes.growth) // 2]
        laid = lay_history(database_url, sizes.history)
        yield _measure(side, f"{size:,} steps, with {laid:,} finished ones in the tables", size)
        yield _measure_pruning(side, size, database_url)


def _measure(side: Baton, title: str, size: int) -> Growth:
    runs = max(1, min(ENOUGH, 10 * size) // size)
    steps = runs * (size + 1)
    side.wide(size)
    before = side.meter.read()
    for _ in range(runs):
        side.wide(size)
    per_step = (side.meter.read() - before) * (1000 / steps)
    return Growth(title, per_step.seconds, per_step.cpu, per_step.postgres)


def _measure_pruning(side: Baton, size: int, database_url: str) -> Growth:
    """The same while the finished ones are being removed; what Postgres does for that counts as well."""
    pruner, removed = Pruner(database_url, Rule(older_than=OLD)), Removed()
    stopped = threading.Event()
    began = time.monotonic()

    def prune() -> float:
        nonlocal removed
        for batch in pruner.batches():
            removed += batch
            if stopped.is_set():
                break
        return time.monotonic() - began

    with ThreadPoolExecutor(1) as thread:
        pruning = thread.submit(prune)
        measured = _measure(side, "", size)
        stopped.set()
        rate = removed.steps / pruning.result()
    return replace(
        measured, title=f"{size:,} steps, while the finished ones are pruned, {rate:,.0f} per second"
    )


def lay_history(database_url: str, steps: int) -> int:
    """Copy the largest finished run until there are so many more steps; the number of them."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        row = conn.execute(_LARGEST).fetchone()
        assert row is not None, "no run has ended yet"
        model, size = row
        copies = -(-steps // size)
        with conn.transaction():
            conn.execute(
                "CREATE TEMP TABLE copied ON COMMIT DROP AS"
                " SELECT gen_random_uuid() AS id FROM generate_series(1, %s)",
                [copies],
            )
            for table, key in (
                ("runs", "id"),
                ("steps", "run_id"),
                ("attempts", "run_id"),
                ("events", "run_id"),
            ):
                conn.execute(_copy(conn, table, key), [model])
        conn.execute("ANALYZE")
        conn.execute("CHECKPOINT")
    return int(copies * size)


_LARGEST = """
SELECT s.run_id, count(*) AS size FROM steps s JOIN runs r ON r.id = s.run_id
WHERE r.state = 'completed' GROUP BY s.run_id ORDER BY size DESC LIMIT 1
"""


def _copy(conn: psycopg.Connection[Any], table: str, key: str) -> Composed:
    """All rows of one run once more for each copy, whatever columns the table has."""
    rows = conn.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name = %s AND column_name <> %s AND is_identity = 'NO' AND is_generated = 'NEVER'",
        [table, key],
    ).fetchall()
    columns = SQL(", ").join(Identifier(name) for (name,) in rows)
    chosen = SQL(", ").join(Identifier("t", name) for (name,) in rows)
    statement = SQL(
        "INSERT INTO {table} ({key}, {columns})"
        " SELECT copied.id, {chosen} FROM {table} AS t, copied WHERE t.{key} = %s"
    )
    return statement.format(table=Identifier(table), key=Identifier(key), columns=columns, chosen=chosen)
