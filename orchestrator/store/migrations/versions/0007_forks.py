"""The runs that were forked from a run are found by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "runs_forks", "runs", ["forked_from"], postgresql_where=sa.text("forked_from IS NOT NULL")
    )
