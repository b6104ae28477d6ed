"""Steps that wait for events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("incoming_events_alike")
    op.create_index("incoming_events_alike", "incoming_events", ["tenant", "type", "key", "at"])
    op.create_index("incoming_events_of_type", "incoming_events", ["tenant", "type", "at"])
    op.add_column("waits", sa.Column("looked_at", sa.DateTime(timezone=True)))
    op.create_index(
        "waits_unseen",
        "waits",
        ["id"],
        postgresql_where=sa.text("kind = 'event' AND settled_at IS NULL AND looked_at IS NULL"),
    )
    op.create_index(
        "waits_taken",
        "waits",
        ["run_id", "settled_by"],
        postgresql_where=sa.text("kind = 'event' AND settled_at IS NOT NULL"),
    )
    op.create_table(
        "wakes",
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("wait", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("event", "wait", name=op.f("pk_wakes")),
        sa.ForeignKeyConstraint(
            ["event"],
            ["incoming_events.number"],
            name=op.f("fk_wakes_event_incoming_events"),
            ondelete="CASCADE",
        ),
    )
    op.create_index("wakes_of_waits", "wakes", ["wait"])
