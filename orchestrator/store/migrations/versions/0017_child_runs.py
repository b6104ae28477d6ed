"""Runs that a step of another run started."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("parent_run", sa.Uuid()))
    op.add_column("runs", sa.Column("parent_step", sa.Text()))
    op.add_column("runs", sa.Column("parent_try", sa.SmallInteger()))
    op.add_column("runs", sa.Column("awaited", sa.Boolean()))
    op.create_check_constraint(
        op.f("ck_runs_child_as_a_whole"),
        "runs",
        "num_nulls(parent_run, parent_step, parent_try, awaited) IN (0, 4)",
    )
    op.create_index(
        "runs_children",
        "runs",
        ["parent_run", "parent_step", "parent_try"],
        unique=True,
        postgresql_where=sa.text("parent_run IS NOT NULL"),
    )
