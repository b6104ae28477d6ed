"""Alembic runs this file; `orchestrator.store.schema` hands it an open connection."""

from __future__ import annotations

from alembic import context

from orchestrator.store.metadata import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
with context.begin_transaction():
    context.run_migrations()
