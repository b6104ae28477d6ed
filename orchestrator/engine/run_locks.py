"""Transactions that hold runs: shared by those who add steps, alone by those who move a whole run.

A transaction that creates runs holds their definition instead, shared.

Why there are locks at all is told in `orchestrator.store.lock_queries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from orchestrator.store import lock_queries as sql
from orchestrator.store.connect import AnyConn, Conn


@contextmanager
def sharing(conn: Conn, runs: Iterable[UUID]) -> Iterator[None]:
    """A transaction during which no one else owns these runs; others may share them."""
    keys = sorted({run_key(run) for run in runs})
    with _transaction(conn, [sql.SHARE_RUN.format(key=key) for key in keys]):
        yield


@contextmanager
def owning(conn: Conn, run: UUID, *, patience: float | None = None) -> Iterator[None]:
    """A transaction that has a run to itself.

    Raises `psycopg.errors.LockNotAvailable` if somebody else holds the run for longer than `patience` seconds.
    """
    locks = [sql.OWN_RUN.format(key=run_key(run))]
    if patience is not None:
        limit = sql.LIMIT_WAIT.format(milliseconds=round(patience * 1000))
        locks = [limit, *locks, sql.LIMIT_WAIT.format(milliseconds=0)]
    with _transaction(conn, locks):
        yield


@contextmanager
def keeping(conn: Conn, definition: str) -> Iterator[None]:
    """A transaction during which nobody removes this definition."""
    with _transaction(conn, [_keep(definition)]):
        yield


def keep(conn: AnyConn, definition: str) -> None:
    """The same for the rest of a transaction that is under way."""
    conn.execute(_keep(definition).encode())


@contextmanager
def owning_idle(conn: Conn, runs: Iterable[UUID]) -> Iterator[set[UUID]]:
    """A transaction that has those of these runs to itself that nobody holds just now; it waits for none."""
    keys = {run: run_key(run) for run in runs}
    with _transaction(conn, []):
        found = conn.execute(sql.TRY_OWN_RUNS, {"keys": sorted(set(keys.values()))}).fetchall()
        got = {key for (key,) in found}
        yield {run for run, key in keys.items() if key in got}


@contextmanager
def _transaction(conn: Conn, locks: Iterable[str]) -> Iterator[None]:
    """BEGIN and the locks travel in one message: on the path of every step, a round trip counts."""
    try:
        conn.execute("; ".join(["BEGIN", *locks]).encode())
        yield
    except BaseException:
        if not conn.closed:
            conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")


def run_key(run: UUID) -> int:
    """32 bits of the random part of a run's id; two runs that share a key only wait for each other."""
    return int.from_bytes(run.bytes[-4:], signed=True)


def _keep(definition: str) -> str:
    return sql.KEEP_DEFINITION.format(key=definition_key(definition))


def definition_key(definition: str) -> int:
    """32 bits of a definition's id."""
    return int.from_bytes(bytes.fromhex(definition[:8]), signed=True)
