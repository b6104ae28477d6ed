"""Statements of the result backend: each stands once, named as the function that runs it.

Every function takes an autocommit connection, or one inside the caller's transaction. All of them may be
repeated without harm, except `add_to_chord`, which counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from orchestrator.store.connect import Conn

NO_INDEX = 2**31 - 1
"""The place of a header that has no index in its group: behind all that have one."""

STORE_RESULT: LiteralString = """
    INSERT INTO results AS r (id, status, payload)
    VALUES (%(id)s, %(status)s, %(payload)s)
    ON CONFLICT (id) DO UPDATE
       SET status = excluded.status, payload = excluded.payload, stored_at = now()
     WHERE r.status <> 'SUCCESS'
"""


def store_result(conn: Conn, task_id: str, status: str, payload: bytes) -> bool:
    """Write a task's state, unless a SUCCESS stands there already; say whether it was written."""
    row = {"id": task_id, "status": status, "payload": payload}
    return conn.execute(STORE_RESULT, row).rowcount == 1


FETCH_RESULT: LiteralString = "SELECT payload FROM results WHERE id = %s"


def fetch_result(conn: Conn, task_id: str) -> bytes | None:
    """Return the payload of one result, or None."""
    row = conn.execute(FETCH_RESULT, (task_id,)).fetchone()
    return row[0] if row else None


FETCH_RESULTS_IN_STATES: LiteralString = """
    SELECT id, payload FROM results WHERE id = ANY(%s) AND status = ANY(%s)
"""


def fetch_results_in_states(conn: Conn, ids: Sequence[str], states: Sequence[str]) -> dict[str, bytes]:
    """Return `{id: payload}` of those among `ids` that are in one of `states`."""
    rows = conn.execute(FETCH_RESULTS_IN_STATES, (list(ids), list(states))).fetchall()
    return dict(rows)


FORGET_RESULT: LiteralString = "DELETE FROM results WHERE id = %s"


def forget_result(conn: Conn, task_id: str) -> None:
    """Delete one result; unknown ids are no fault."""
    conn.execute(FORGET_RESULT, (task_id,))


SAVE_GROUP: LiteralString = """
    INSERT INTO result_groups (id, payload) VALUES (%s, %s)
    ON CONFLICT (id) DO UPDATE SET payload = excluded.payload, stored_at = now()
"""


def save_group(conn: Conn, group_id: str, payload: bytes) -> None:
    """Remember which results belong to a group."""
    conn.execute(SAVE_GROUP, (group_id, payload))


RESTORE_GROUP: LiteralString = "SELECT payload FROM result_groups WHERE id = %s"


def restore_group(conn: Conn, group_id: str) -> bytes | None:
    """Return the payload of a saved group, or None."""
    row = conn.execute(RESTORE_GROUP, (group_id,)).fetchone()
    return row[0] if row else None


DELETE_GROUP: LiteralString = "DELETE FROM result_groups WHERE id = %s"


def delete_group(conn: Conn, group_id: str) -> None:
    """Forget a saved group; its results stay."""
    conn.execute(DELETE_GROUP, (group_id,))


EXPIRE_RESULTS: LiteralString = """
    DELETE FROM results r
     WHERE r.stored_at < now() - make_interval(secs =>
               CASE WHEN r.status = 'FAILURE' THEN %(failures)s::float8 ELSE %(others)s::float8 END)
       AND NOT EXISTS (SELECT FROM chord_parts p WHERE p.task_id = r.id)
"""


def expire_results(conn: Conn, *, failures: float | None, others: float | None) -> int:
    """Delete results older than so many seconds (None: never), but no header of an open chord."""
    return conn.execute(EXPIRE_RESULTS, {"failures": failures, "others": others}).rowcount


EXPIRE_GROUPS: LiteralString = """
    DELETE FROM result_groups g
     WHERE g.stored_at < now() - make_interval(secs => %s::float8)
       AND NOT EXISTS (SELECT FROM chords c WHERE c.id = g.id AND c.done_at IS NULL)
"""


def expire_groups(conn: Conn, seconds: float | None) -> int:
    """Delete saved groups older than so many seconds (None: never), but no open chord's header."""
    return conn.execute(EXPIRE_GROUPS, (seconds,)).rowcount


EXPIRE_CHORDS: LiteralString = """
    DELETE FROM chords c
     WHERE c.done_at < now() - make_interval(secs => %(done)s::float8)
        OR (c.done_at IS NULL
            AND c.opened_at < now() - make_interval(secs => %(open)s::float8)
            AND NOT EXISTS (SELECT FROM chord_parts p
                             WHERE p.chord_id = c.id
                               AND p.stored_at >= now() - make_interval(secs => %(open)s::float8)))
"""


def expire_chords(conn: Conn, *, done: float | None, open_: float | None) -> int:
    """Delete chords done for so many seconds, and open ones without any news for so many (None: never)."""
    return conn.execute(EXPIRE_CHORDS, {"done": done, "open": open_}).rowcount


EXPIRE_PARTS: LiteralString = """
    DELETE FROM chord_parts p
     WHERE p.stored_at < now() - make_interval(secs => %s::float8)
       AND NOT EXISTS (SELECT FROM chords c WHERE c.id = p.chord_id)
"""


def expire_parts(conn: Conn, seconds: float | None) -> int:
    """Delete old parts whose chord is gone."""
    return conn.execute(EXPIRE_PARTS, (seconds,)).rowcount


TABLES_EXIST: LiteralString = """
    SELECT bool_and(to_regclass(name) IS NOT NULL)
      FROM unnest(ARRAY['results', 'result_groups', 'chords', 'chord_parts']) AS name
"""


def tables_exist(conn: Conn) -> bool:
    """Say whether all four tables can be seen from this connection's search path."""
    row = conn.execute(TABLES_EXIST).fetchone()
    return bool(row and row[0])


LOCK_CREATION: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended('baton: create tables', 0))"


def create_tables(conn: Conn) -> None:
    """Create what is missing of the four tables; many processes may ask at the same time."""
    # Imported here because SQLAlchemy costs every worker process memory that only this path needs.
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    from orchestrator.store.result_tables import RESULT_TABLES

    # The dialect's name styles its placeholders only; there are none in a table's definition.
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    with conn.transaction():
        conn.execute(LOCK_CREATION)
        for table in RESULT_TABLES:
            ddl = str(CreateTable(table, if_not_exists=True).compile(dialect=dialect))
            conn.execute(ddl.encode())
