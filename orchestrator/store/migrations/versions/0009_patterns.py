"""Steps of any pattern: their kinds are no longer listed here."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("ck_steps_kind_known"), "steps")
    op.create_check_constraint(op.f("ck_steps_kind_form"), "steps", "kind ~ '^[a-z_]+$'")
