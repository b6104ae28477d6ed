"""What a schedule does while the run that it started last goes on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("schedules", sa.Column("overlap", sa.Text(), nullable=False, server_default="allow"))
    op.add_column("schedules", sa.Column("left_out_at", sa.DateTime(timezone=True)))
    op.create_check_constraint("overlap_known", "schedules", "overlap IN ('allow', 'skip')")
