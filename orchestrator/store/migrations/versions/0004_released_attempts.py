"""Attempts that a worker gave back: they ended, and were neither lost nor failed."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATES = "state IN ('done', 'failed', 'lost', 'released', 'skipped', 'cancelled')"


def upgrade() -> None:
    op.drop_constraint(op.f("ck_attempts_state_known"), "attempts")
    op.create_check_constraint(op.f("ck_attempts_state_known"), "attempts", _STATES)
