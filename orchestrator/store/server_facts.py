"""What a Postgres server says about itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection
from psycopg.rows import class_row


class ServerFacts(NamedTuple):
    """Settings as this session sees them, and the state of the server."""

    database: str
    user: str
    version: int
    """Such as 180004 for 18.4."""
    standby: bool
    read_only: bool
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    encoding: str
    max_connections: int
    connections: int
    clock: datetime
    may_create: bool
    """Whether this user may create tables in the schema that it sees first."""


class VectorFacts(NamedTuple):
    """Whether this server compares vectors."""

    installed: str | None
    """The version of pgvector that this session can use."""
    known: bool
    """Whether its files are on the server."""
    may_install: bool


def vector_facts(conn: Connection[Any]) -> VectorFacts:
    """Ask a server about pgvector, in one round trip."""
    with conn.cursor(row_factory=class_row(VectorFacts)) as cursor:
        return cursor.execute(_VECTOR_FACTS).fetchone()  # type: ignore[return-value]


def server_facts(conn: Connection[Any]) -> ServerFacts:
    """Ask a server about itself, in one round trip."""
    with conn.cursor(row_factory=class_row(ServerFacts)) as cursor:
        return cursor.execute(_SERVER_FACTS).fetchone()  # type: ignore[return-value]


_SERVER_FACTS: LiteralString = """
    SELECT
        current_database() AS database,
        current_user::text AS user,
        current_setting('server_version_num')::int AS version,
        pg_is_in_recovery() AS standby,
        current_setting('default_transaction_read_only')::bool AS read_only,
        current_setting('fsync') AS fsync,
        current_setting('full_page_writes') AS full_page_writes,
        current_setting('synchronous_commit') AS synchronous_commit,
        current_setting('server_encoding') AS encoding,
        current_setting('max_connections')::int AS max_connections,
        (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
        clock_timestamp() AS clock,
        coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create
"""

_VECTOR_FACTS: LiteralString = """
    SELECT
        (SELECT extversion FROM pg_extension WHERE extname = 'vector' AND to_regtype('vector') IS NOT NULL)
            AS installed,
        EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS known,
        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
            OR has_database_privilege(current_database(), 'CREATE') AND EXISTS (
                SELECT FROM pg_available_extension_versions WHERE name = 'vector' AND trusted
            ) AS may_install
"""
