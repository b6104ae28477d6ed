"""Connections to Postgres that survive a fork, many threads and a restarted server."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString, Protocol

import psycopg
from psycopg import Connection, Cursor
from psycopg.abc import Params, QueryNoTemplate
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import IdleInTransactionSessionTimeout
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from orchestrator.outages import CONNECTIONS, POSTGRES

Conn = Connection[TupleRow]


class AnyConn(Protocol):
    """A connection of ours, or what is lent to us of somebody else's: it executes statements, and no more."""

    def execute(self, query: QueryNoTemplate, params: Params | None = None) -> Cursor[TupleRow]: ...


DEFAULTS = {
    "application_name": "baton",
    # Seconds, as the next three: a server or a network that vanishes without a word is noticed.
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
}
"""Settings of a connection where its URL does not say otherwise."""

PAUSE = 0.1
"""Seconds between two tries to reach a server that was there before."""

MAX_IDLE = 300.0
"""Seconds after which a connection that nobody needed is closed."""


LONGEST_PAUSE = 5.0
"""Seconds between two statements of a transaction after which the server ends it, and with it the locks it holds.

Between two there is computing and nothing that waits, so seconds pass only where a process was stopped (SIGSTOP, a
machine that slept). One that is stopped for longer than a lease, 3 s, is taken for dead: what it has locked must be
free then, too. Long statements are none of this, and migrations and `baton db prune` have connections of their own.
"""


class NoConnection(psycopg.OperationalError):
    """No connection could be had in time: all of this process are in use, or the server stayed away."""


class Overslept(psycopg.OperationalError):
    """The server has ended a transaction in which nothing came for `LONGEST_PAUSE`: nothing of it has happened."""

    sqlstate = "25P03"


class Pool:
    """At most `size` connections that belong to the process that uses them, lent to its threads.

    A connection is made, and replaced, by the thread that needs it and at that moment: once a server that was away is
    back, nobody waits longer. After a fork the child forgets the parent's connections without closing them (closing
    would end the parent's sessions). Connections are in autocommit mode: open a transaction with
    `with conn.transaction():`.

    Raises `psycopg.OperationalError` at once when the server could never be reached, and its subclasses `NoConnection`
    when no connection could be had for `timeout` seconds, within which the server may have restarted, and `Overslept`
    out of a transaction that was left alone for too long.
    """

    def __init__(self, url: str, *, size: int = 4, timeout: float = 10.0) -> None:
        self.url = url
        self._size = size
        self._timeout = timeout
        self._settings: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(url)}
        self._abandoned: list[object] = []
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[tuple[Conn, float]] = []
        """Those nobody uses, with the time since when; the latest is taken first."""
        self._used = 0
        self._epoch = 0
        self._reached = False
        self._pid = os.getpid()

    @contextmanager
    def connection(self) -> Iterator[Conn]:
        """Lend one autocommit connection; it goes back on exit, and is dropped if it broke."""
        if self._pid != os.getpid():
            # Keep a reference: the finaliser must not close sockets that the parent still uses.
            self._abandoned.append(self._idle)
            self._begin()
        idle, epoch = self._take()
        try:
            conn = idle if idle is not None and _lives(idle) else self._reach()
        except BaseException:
            self._free(None)
            raise
        try:
            yield conn
        except IdleInTransactionSessionTimeout as error:  # which the driver takes for a bug in a program
            raise Overslept(str(error)) from error
        finally:
            if epoch == self._epoch and _settled(conn):
                self._free(conn)
            else:
                self._free(None)
                conn.close()

    @property
    def was_reached(self) -> bool:
        """Whether this process has had a connection: if there is none now, one can be hoped for."""
        return self._reached and self._pid == os.getpid()

    def close(self) -> None:
        """Close this process's connections, those in use as soon as they come back; may be called twice."""
        if self._pid != os.getpid():
            return
        with self._changed:
            self._epoch += 1
            idle, self._idle = self._idle, []
        for conn, _ in idle:
            conn.close()

    def _take(self) -> tuple[Conn | None, int]:
        """The right to a connection: one that was idle, or None to make one."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._used < self._size, self._timeout):
                error = NoConnection(f"none of {self._size} connections became free in {self._timeout:g} s")
                CONNECTIONS.noticed(error)
                raise error
            CONNECTIONS.over()
            self._used += 1
            return self._idle.pop()[0] if self._idle else None, self._epoch

    def _free(self, conn: Conn | None) -> None:
        """Give back the right, and the connection if it may be used again."""
        now, old = time.monotonic(), None
        with self._changed:
            self._used -= 1
            if conn is not None:
                self._idle.append((conn, now))
            if self._idle and now - self._idle[0][1] > MAX_IDLE:
                old, _ = self._idle.pop(0)
            self._changed.notify()
        if old is not None:
            old.close()

    def _reach(self) -> Conn:
        """A new connection, as soon as there is a server."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                conn = self._connect()
            except psycopg.OperationalError as error:
                if not self._reached:
                    raise
                if time.monotonic() > until:
                    raise NoConnection(f"no connection in {self._timeout:g} s: {error}") from error
                POSTGRES.noticed(error)
                time.sleep(PAUSE)
            else:
                POSTGRES.over()
                self._reached = True
                return conn

    def _connect(self) -> Conn:
        conn: Conn = psycopg.connect(**self._settings, autocommit=True)
        try:
            _configure(conn)
        except BaseException:
            conn.close()
            raise
        return conn


_AS_THE_SERVER_LIKES: LiteralString = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'on', true),
       set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true)
"""


@contextmanager
def surveying(conn: Conn) -> Iterator[None]:
    """A transaction whose statements read much of large tables: they are planned anew, for what is in those."""
    with conn.transaction():
        conn.execute(_AS_THE_SERVER_LIKES)
        yield


def _configure(conn: Conn) -> None:
    """Plan each statement once, for tables of any size; and hold no lock while this process is stopped.

    Every hot statement looks rows up by key in arrays of any length. A plan made anew for each call costs more than
    the call; and one that was made while the tables were small would scan them when they are large.
    """
    for setting in ("plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_hashjoin = off"):
        conn.execute(f"SET {setting}")
    conn.execute("SET enable_mergejoin = off")
    conn.execute(f"SET idle_in_transaction_session_timeout = {round(LONGEST_PAUSE * 1000)}".encode())
    conn.prepare_threshold = 1


def _lives(conn: Conn) -> bool:
    """Whether this connection can be used: a dead server leaves the socket readable, so only then ask the server."""
    if conn.closed:
        return False
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLIN)
    if not poller.poll(0):
        return True
    try:
        conn.execute("SELECT 1")
    except psycopg.Error:
        conn.close()
        return False
    return True


def _settled(conn: Conn) -> bool:
    """Whether nothing is under way on this connection, or could be rolled back."""
    if conn.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        try:
            conn.rollback()
        except psycopg.Error:
            return False
    return conn.pgconn.transaction_status == TransactionStatus.IDLE
