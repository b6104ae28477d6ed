"""The tables on first use, the tables of the migration and the tables of the declaration are the same."""

from __future__ import annotations

import importlib
from typing import Any

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import MetaData, create_engine

from orchestrator.store.metadata import metadata
from orchestrator.store.result_queries import create_tables, tables_exist
from orchestrator.store.result_tables import RESULT_TABLES
from tests.support import Databases

migration = importlib.import_module("orchestrator.store.migrations.versions.0001_results")


def shape(url: str) -> list[Any]:
    """Every column and every constraint of the database, as Postgres tells them."""
    columns = (
        "SELECT table_name, column_name, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    constraints = (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
    )
    with psycopg.connect(url) as conn:
        return [conn.execute(columns).fetchall(), conn.execute(constraints).fetchall()]


def test_migrated_created_and_declared_tables_are_equal(databases: Databases) -> None:
    migrated, created = databases.create(), databases.create()
    with psycopg.connect(created, autocommit=True) as conn:
        assert not tables_exist(conn)
        create_tables(conn)
        create_tables(conn)
        assert tables_exist(conn)

    declared = MetaData(naming_convention=metadata.naming_convention)
    for table in RESULT_TABLES:
        table.to_metadata(declared)
    engine = create_engine(migrated.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        with Operations.context(context):
            migration.upgrade()
        assert compare_metadata(context, declared) == []
    assert shape(migrated) == shape(created)

    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        migration.downgrade()
    engine.dispose()
    assert shape(migrated) == [[], []]
    databases.drop(migrated)
    databases.drop(created)
