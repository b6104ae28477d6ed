"""What runs may consume, and have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("budget", JSONB()))
    op.add_column("runs", sa.Column("accounts", ARRAY(sa.Uuid())))
    op.add_column("runs", sa.Column("exhausted", sa.Text()))
    op.create_table(
        "spendings",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("stripe", sa.SmallInteger(), nullable=False),
        sa.Column("tokens", sa.Numeric(), nullable=False),
        sa.Column("usd", sa.Numeric(), nullable=False),
        sa.Column("model_calls", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "stripe", name=op.f("pk_spendings")),
        postgresql_with={"fillfactor": "50"},
    )
