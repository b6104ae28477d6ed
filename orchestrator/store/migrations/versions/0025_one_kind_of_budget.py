"""Of a budget it is told when most of it is used up, and when all of it is.

`runs.exhausted` stays as long as workers that write it may run on this schema; nothing reads it any more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "budget_warnings", sa.Column("level", sa.SmallInteger(), nullable=False, server_default="80")
    )
    op.drop_constraint(op.f("pk_budget_warnings"), "budget_warnings")
    op.create_primary_key(op.f("pk_budget_warnings"), "budget_warnings", ["account", "opens_at", "level"])
