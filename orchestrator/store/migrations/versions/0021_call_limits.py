"""Limits of calls inside a step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("permits", sa.Column("place", sa.Integer(), server_default="-1", nullable=False))
    op.drop_constraint(op.f("pk_permits"), "permits")
    op.create_primary_key(op.f("pk_permits"), "permits", ["key", "run_id", "path", "attempt", "place"])
    op.drop_constraint(op.f("ck_attempts_state_known"), "attempts")
    op.create_check_constraint(
        op.f("ck_attempts_state_known"),
        "attempts",
        "state IN ('done', 'failed', 'lost', 'released', 'skipped', 'cancelled', 'waiting', 'limited')",
    )
