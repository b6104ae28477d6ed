"""Brings a database to the tables of this version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from orchestrator.store import (
    budget_tables,
    event_tables,
    limit_tables,
    memory_tables,
    result_tables,
    run_tables,
    schedule_tables,
    state_tables,
    tool_tables,
    wait_tables,
    worker_tables,
)
from orchestrator.store.metadata import metadata
from orchestrator.store.revision import check, head, revision
from schemas.errors import Unavailable

__all__ = [
    "budget_tables",
    "check",
    "event_tables",
    "head",
    "limit_tables",
    "memory_tables",
    "metadata",
    "result_tables",
    "revision",
    "run_tables",
    "schedule_tables",
    "state_tables",
    "tool_tables",
    "upgrade",
    "wait_tables",
    "worker_tables",
]

_LOCK = 7000


def upgrade(database_url: str) -> list[str]:
    """Apply the migrations that are missing, one process at a time; the revisions applied, in order."""
    with _connect(database_url) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            before = _revision(connection)
            connection.rollback()
            command.upgrade(_config(connection), "head")
            connection.commit()
            return _between(before, _revision(connection))
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()


@contextmanager
def _connect(database_url: str) -> Iterator[Connection]:
    """Raises `Unavailable` when the server cannot be reached."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    url = url.replace("postgres://", "postgresql+psycopg://", 1)
    try:
        connection = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5}).connect()
    except OperationalError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        raise Unavailable(f"Postgres cannot be reached: {reason}", next_step="baton doctor") from None
    with connection:
        yield connection


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent / "migrations"))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _between(before: str | None, after: str | None) -> list[str]:
    if before == after:
        return []
    found = [script.revision for script in _scripts().iterate_revisions(after, before)]
    return [one for one in reversed(found) if one != before]
