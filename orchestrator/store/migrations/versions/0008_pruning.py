"""What belongs to a run is found by the run, so that it can go with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("idempotency_keys_of_runs", "idempotency_keys", ["run_id"])
    op.create_index(
        "dead_letters_of_runs", "dead_letters", ["run_id"], postgresql_where=sa.text("run_id IS NOT NULL")
    )
