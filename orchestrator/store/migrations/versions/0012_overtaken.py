"""Which ready steps of an agent are the oldest, and whose messages wait in workers for their rate."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.drop_index("steps_ready", "steps")
    op.create_index(
        "steps_ready", "steps", ["agent", "ready_at"], postgresql_where=sa.text("state = 'ready'")
    )
    op.add_column(
        "workers",
        sa.Column("throttled", sa.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
    )
