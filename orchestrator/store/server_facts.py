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
