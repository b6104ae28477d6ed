"""Which agents tell by themselves what they consume is looked up when a budget is used up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("costs_told", "costs", ["agent"], postgresql_where=sa.text("model = ''"))
