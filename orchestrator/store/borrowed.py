"""A connection that a caller lends us, so that our rows stand in the caller's own transaction.

Nothing of the caller's is left changed: we neither commit nor roll back, work behind a savepoint, put the search path
back, and use a cursor of our own, so the connection's row factory, cursor factory and adapters do not concern us.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import Cursor
from psycopg.abc import Params, QueryNoTemplate
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from orchestrator.store.connect import AnyConn, Conn, Pool
from schemas.errors import Fault, InputError, SchemaOutdated

_WANTED = "a psycopg 3 Connection, or a SQLAlchemy Connection or Session on postgresql+psycopg"

_SELECT_HOME: LiteralString = """
SELECT current_database(), pg_postmaster_start_time(),
       (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('runs'))
"""

_SELECT_VISIT: LiteralString = """
SELECT current_database(), pg_postmaster_start_time(), current_setting('search_path')
"""

# Temporary tables come first in every search path that does not name them.
_ENTER: LiteralString = "SELECT set_config('search_path', %(schema)s || ', pg_temp', true)"

_LEAVE: LiteralString = "SELECT set_config('search_path', %(path)s, true)"


class Home(NamedTuple):
    """Where our tables are."""

    database: str
    started_at: datetime
    """When the server started, which tells two servers apart."""
    schema: str


def find_home(pool: Pool) -> Home:
    """Where the tables are that this pool reaches. Raises `SchemaOutdated`."""
    with pool.connection() as conn:
        row = conn.execute(_SELECT_HOME).fetchone()
    if row is None or row[2] is None:
        raise SchemaOutdated
    return Home(*row)


class Lender:
    """Makes visits on connections of others, after a look whether they lead to the tables of `pool`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._home: Home | None = None

    @contextmanager
    def visit(self, connection: object) -> Iterator[AnyConn]:
        """What the caller's connection executes for us, inside its transaction, which an error leaves as it was.

        Raises `InputError` for whatever is no usable connection.
        """
        guest = _Guest(_driver_connection(connection))
        database, started_at, path = guest.one(_SELECT_VISIT)
        schema = self._schema(database, started_at)
        guest.execute("SAVEPOINT baton")
        try:
            guest.execute(_ENTER, {"schema": schema})
            yield guest
            guest.execute(_LEAVE, {"path": path})
        except BaseException:
            if guest.in_transaction:
                # This puts the search path back, too.
                guest.execute("ROLLBACK TO SAVEPOINT baton")
                guest.execute("RELEASE SAVEPOINT baton")
            raise
        guest.execute("RELEASE SAVEPOINT baton")

    def _schema(self, database: str, started_at: datetime) -> str:
        home = self._home
        if home is None or (home.database, home.started_at) != (database, started_at):
            # A server that was restarted has another time.
            home = self._home = find_home(self._pool)
        if (home.database, home.started_at) != (database, started_at):
            raise _refused(f"it leads to the database {database!r}, but Baton's tables are in another one")
        return home.schema


class _Guest:
    """Executes our statements on a connection that is not ours."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    @property
    def in_transaction(self) -> bool:
        status = self._conn.info.transaction_status
        return status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def execute(self, query: QueryNoTemplate, params: Params | None = None) -> Cursor[TupleRow]:
        # Nothing is prepared: prepared statements stay in a session.
        return _OurCursor(self._conn, row_factory=tuple_row).execute(query, params, prepare=False)

    def one(self, query: LiteralString) -> TupleRow:
        row = self.execute(query).fetchone()
        assert row is not None  # noqa: S101  it selects no table
        return row


class _OurCursor(Cursor[TupleRow]):
    """A cursor that adapts values as those of our own connections, whatever the connection was taught."""

    @property
    def adapters(self) -> AdaptersMap:
        return psycopg.adapters


def _driver_connection(connection: object) -> Conn:
    """The psycopg connection, in a transaction or about to begin one. Raises `InputError`."""
    found = _unwrapped(connection)
    if isinstance(found, psycopg.AsyncConnection):
        raise _refused(
            "it is asynchronous, which is not supported: submit through a sync connection, or after the commit"
        )
    if not isinstance(found, psycopg.Connection):
        kind = type(found)
        raise _refused(f"it is {kind.__module__}.{kind.__qualname__}, but must be {_WANTED}")
    match found.info.transaction_status:
        case TransactionStatus.IDLE if found.autocommit:
            raise _refused("it has no transaction open: submit inside `with connection.transaction():`")
        case TransactionStatus.INERROR:
            raise _refused("its transaction has failed already: roll it back first")
        case TransactionStatus.UNKNOWN:
            raise _refused("it is closed")
    return found


def _unwrapped(connection: object) -> object:
    """The driver's connection inside SQLAlchemy's; everything else as it is."""
    for session in ("sqlalchemy.orm:Session", "sqlalchemy.orm:scoped_session"):
        if _is_a(connection, session):
            connection = connection.connection()  # type: ignore[attr-defined]
    if not _is_a(connection, "sqlalchemy.engine:Connection"):
        return connection
    known: Any = connection
    if known.closed:
        raise _refused("it is closed")
    if not known.in_transaction():
        # SQLAlchemy commits only what it has seen beginning.
        known.exec_driver_sql("SELECT 1")
    return known.connection.driver_connection


def _is_a(value: object, name: str) -> bool:
    """By name, because a value of a library that was never imported cannot be here."""
    module, _, attribute = name.partition(":")
    kind = getattr(sys.modules.get(module), attribute, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _refused(fault: str) -> InputError:
    return InputError("connection", [Fault("", fault)], next_step="hand over a connection with a transaction")
