"""The database refuses what cannot be, and its tables are those of the declaration however they came to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from orchestrator.definitions.vocabulary import each, workflow
from orchestrator.store import revision as revisions
from orchestrator.store import schema
from orchestrator.store.schema import check, head, metadata, revision, upgrade
from schemas.errors import SchemaOutdated
from tests.integration.engine.bench import Bench, named


def shape(url: str) -> list[Any]:
    """Every column, constraint and index, as Postgres tells them."""
    statements = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity"
        " FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'"
        " ORDER BY 1, 2",
        "SELECT tablename, indexname, indexdef FROM pg_indexes"
        " WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1, 2",
    )
    with psycopg.connect(url) as conn:
        return [conn.execute(statement).fetchall() for statement in statements]


def on(url: str) -> Any:
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))


def test_a_fresh_schema_equals_all_migrations(database: str, migrated: str) -> None:
    engine = on(database)
    metadata.create_all(engine)
    engine.dispose()

    assert shape(database) == shape(migrated)


def test_the_migrations_leave_nothing_to_migrate(migrated: str) -> None:
    engine = on(migrated)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()

    assert found == []


def test_an_upgrade_runs_once(database: str) -> None:
    assert revision(database) is None

    applied = upgrade(database)

    assert applied[-1] == head()
    assert revision(database) == head()
    assert upgrade(database) == []
    check(database)


def test_a_database_without_tables_is_named_with_the_command_that_helps(database: str) -> None:
    with pytest.raises(SchemaOutdated, match="without Baton's tables") as refused:
        check(database)
    assert refused.value.next_step == "baton db upgrade"


def test_a_database_of_another_version_is_named(migrated: str) -> None:
    def at(version: str) -> None:
        with psycopg.connect(migrated) as conn:
            conn.execute("UPDATE alembic_version SET version_num = %s", [version])

    at("9999")
    with pytest.raises(SchemaOutdated, match="at revision 9999, which is newer"):
        check(migrated)
    at("0001")
    with pytest.raises(SchemaOutdated, match=f"at revision 0001, but this version needs revision {head()}"):
        check(migrated)


@pytest.fixture
def run(bench: Bench) -> UUID:
    """A run with a step that runs, one that is ready and one that waits."""
    run = bench.submit(workflow("w", each(named("a"), parallel=2)), [1, 2, 3])
    bench.claim(run, "0/0")
    return run


@pytest.mark.parametrize(
    ("table", "change", "constraint"),
    [
        ("steps", "state = 'sleeping' WHERE path = '0/1'", "state_known"),
        ("steps", "kind = 'Not one' WHERE path = '0'", "kind_form"),
        ("steps", "agent = NULL WHERE path = '0/1'", "agent_when_leaf"),
        ("steps", "agent = 'a' WHERE path = '0'", "agent_when_leaf"),
        ("steps", "input = '1' WHERE path = '0'", "one_input"),
        ("steps", "input = NULL WHERE path = '0/1'", "one_input"),
        ("steps", "state = 'done' WHERE path = '0/0'", "finished|output_when_done"),
        ("steps", "state = 'done', finished_at = now() WHERE path = '0/0'", "output_when_done"),
        ("steps", "finished_at = now() WHERE path = '0/0'", "finished"),
        ("steps", "output = '1' WHERE path = '0/0'", "output_when_done"),
        ("steps", "worker_id = NULL WHERE path = '0/0'", "running_is_held"),
        ("steps", "state = 'running' WHERE path = '0/2'", "running_is_held"),
        ("steps", "state = 'open' WHERE path = '0/2'", "open_is_composite"),
        ("steps", "state = 'ready' WHERE path = '0'", "composite_never_runs"),
        ("runs", "state = 'odd'", "state_known"),
        ("runs", "state = 'completed', finished_at = now()", "output_when_completed"),
        ("runs", "output_ref = 'out:0'", "output_when_completed"),
        ("runs", "state = 'failed', finished_at = now()", "error_when_failed"),
        ("runs", "state = 'cancelled'", "finished"),
        ("runs", "priority = 10", "priority_range"),
        ("events", "number = 0", "number_from_one"),
        ("events", "kind = 'danced'", "kind_form"),
        ("runs", "state = 'paused'", "paused_since"),
        ("runs", "time_left = interval '1 s'", "time_left_when_paused"),
    ],
)
def test_the_database_refuses_what_cannot_be(
    bench: Bench, run: UUID, table: str, change: str, constraint: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        bench.query(f"UPDATE {table} SET {change}")  # noqa: S608  both are written above

    assert refused.value.diag.constraint_name is not None
    assert refused.value.diag.constraint_name.removeprefix(f"ck_{table}_") in constraint.split("|")


def test_migrations_follow_each_other_in_the_order_of_their_files() -> None:
    """What a worker needs to know of them it reads off their names."""
    scripts = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    chain = [script.revision for script in scripts.walk_revisions()]
    assert chain[::-1] == revisions._known()
