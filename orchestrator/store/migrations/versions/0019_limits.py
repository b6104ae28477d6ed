"""Limits of the cluster."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("steps", sa.Column("limited", sa.Text()))
    op.create_index(
        "steps_limited",
        "steps",
        ["limited", "due_at"],
        postgresql_where=sa.text("limited IS NOT NULL AND state = 'ready' AND ready_at IS NOT NULL"),
    )
    op.create_table(
        "limits",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("free_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column(
            "used_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_limits")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "permits",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "run_id", "path", "attempt", name=op.f("pk_permits")),
    )
    op.create_index("permits_of_steps", "permits", ["run_id", "path"])
