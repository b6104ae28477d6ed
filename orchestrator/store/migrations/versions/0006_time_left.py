"""A paused run has no deadlines, but time left."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("time_left", sa.Interval()))
    op.add_column("steps", sa.Column("time_left", sa.Interval()))
    # Runs that are paused already.
    op.execute(
        "UPDATE runs SET time_left = due_at - paused_at, due_at = NULL"
        " WHERE state = 'paused' AND due_at IS NOT NULL"
    )
    op.execute(
        "UPDATE steps s SET time_left = s.due_at - r.paused_at, due_at = NULL FROM runs r"
        " WHERE r.id = s.run_id AND r.state = 'paused' AND s.state = 'open' AND s.due_at IS NOT NULL"
    )
    op.create_check_constraint(
        op.f("ck_runs_time_left_when_paused"), "runs", "time_left IS NULL OR state = 'paused'"
    )
