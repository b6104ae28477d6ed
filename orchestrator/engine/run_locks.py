"""Transactions that hold runs: shared by those who add steps, alone by those who move a whole run.

Why there are locks at all is told in `orchestrator.store.lock_queries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from orchestrator.store import lock_queries as sql
from orchestrator.store.connect import Conn


@contextmanager
def sharing(conn: Conn, runs: Iterable[UUID]) -> Iterator[None]:
    """A transaction during which no one else owns these runs; others may share them."""
    keys = sorted({_key(run) for run in runs})
    with _transaction(conn, [sql.SHARE_RUN.format(key=key) for key in keys]):
        yield


@contextmanager
def owning(conn: Conn, run: UUID) -> Iterator[None]:
    """A transaction that has a run to itself."""
    with _transaction(conn, [sql.OWN_RUN.format(key=_key(run))]):
        yield


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


def _key(run: UUID) -> int:
    """32 bits of the random part of a run's id; two runs that share a key only wait for each other."""
    return int.from_bytes(run.bytes[-4:], signed=True)
