"""Which tables a database has and which this version needs. Without the tools that change them: workers start soon."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import psycopg
from psycopg.errors import UndefinedTable

from schemas.errors import SchemaOutdated, Unavailable

_PATIENCE = 5
"""Seconds to wait for a connection."""


def revision(database_url: str) -> str | None:
    """The revision of a database; None for one without Baton's tables. Raises `Unavailable`."""
    try:
        with psycopg.connect(database_url, connect_timeout=_PATIENCE) as conn:
            row = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    except UndefinedTable:
        return None
    except psycopg.OperationalError as error:
        reason = str(error).strip().partition("\n")[0]
        raise Unavailable(f"Postgres cannot be reached: {reason}", next_step="baton doctor") from None
    return str(row[0]) if row is not None else None


def head() -> str:
    """The revision that this version of Baton needs."""
    return _known()[-1]


def check(database_url: str) -> None:
    """Raise `SchemaOutdated` unless the database has the tables that this version needs."""
    found = revision(database_url)
    if found == head():
        return
    if found is not None and found not in _known():
        raise SchemaOutdated(
            f"the database is at revision {found}, which is newer than this version of Baton"
        )
    state = f"at revision {found}" if found else "without Baton's tables"
    raise SchemaOutdated(f"the database is {state}, but this version needs revision {head()}")


@cache
def _known() -> list[str]:
    """All revisions in order: the files of the migrations begin with them."""
    folder = Path(__file__).parent / "migrations" / "versions"
    return sorted(path.name.partition("_")[0] for path in folder.glob("[0-9]*_*.py"))
