"""Connections to Postgres that survive a fork, many threads and a restarted server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import psycopg
from psycopg import Connection, Cursor
from psycopg.abc import Params, QueryNoTemplate
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

Conn = Connection[TupleRow]


class AnyConn(Protocol):
    """A connection of ours, or what is lent to us of somebody else's: it executes statements, and no more."""

    def execute(self, query: QueryNoTemplate, params: Params | None = None) -> Cursor[TupleRow]: ...


_TRY = 5  # seconds for the first connection of a process


class Pool:
    """A psycopg pool that belongs to the process that uses it.

    After a fork the child forgets the parent's pool without closing it (closing would end the parent's
    sessions) and opens its own on first use. Connections are in autocommit mode: open a transaction with
    `with conn.transaction():`. A connection broken by a server restart is replaced on the next checkout.

    Raises `psycopg.OperationalError` when the server cannot be reached at first, and `psycopg_pool.PoolTimeout`
    when later no connection can be had within `timeout` seconds.
    """

    def __init__(self, url: str, *, size: int = 4, timeout: float = 10.0) -> None:
        self.url = url
        self._size = size
        self._timeout = timeout
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Conn] | None = None
        self._pid = os.getpid()
        self._abandoned: list[object] = []

    @contextmanager
    def connection(self) -> Iterator[Conn]:
        """Lend one autocommit connection; it goes back on exit, and is dropped if it broke."""
        with self._mine().connection() as conn:
            yield conn

    def close(self) -> None:
        """Close this process's connections; may be called twice or before any use."""
        with self._lock:
            if self._pool is not None and self._pid == os.getpid():
                self._pool.close()
            self._pool = None

    def _mine(self) -> ConnectionPool[Conn]:
        pool = self._pool
        if pool is not None and self._pid == os.getpid():
            return pool
        if self._pid != os.getpid():
            # A lock held by another thread at the fork would stay held for ever in the child.
            self._lock = threading.Lock()
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                if self._pool is not None:
                    # Keep a reference: the finaliser must not close sockets that the parent still uses.
                    self._abandoned.append(self._pool)
                self._pool = self._open()
                self._pid = os.getpid()
            return self._pool

    def _open(self) -> ConnectionPool[Conn]:
        # A server that is not there is told at once and in its own words; a pool would try for `timeout` seconds.
        psycopg.connect(self.url, connect_timeout=_TRY).close()
        return ConnectionPool(
            self.url,
            kwargs={"autocommit": True, "application_name": "baton"},
            min_size=0,
            max_size=self._size,
            timeout=self._timeout,
            max_idle=300,
            configure=_configure,
            check=_check,
            open=True,
        )


def _configure(conn: Conn) -> None:
    """Plan each statement once, for tables of any size.

    Every hot statement looks rows up by key in arrays of any length. A plan made anew for each call costs more than
    the call; and one that was made while the tables were small would scan them when they are large.
    """
    for setting in ("plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_hashjoin = off"):
        conn.execute(f"SET {setting}")
    conn.execute("SET enable_mergejoin = off")
    conn.prepare_threshold = 1


def _check(conn: Conn) -> None:
    """Cheap liveness check: a dead server leaves the socket readable, so only then ask the server."""
    if conn.closed or _readable(conn.fileno()):
        ConnectionPool.check_connection(conn)


def _readable(fd: int) -> bool:
    import select

    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))
