"""Events from outside, and what they start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _incoming_events()
    _subscriptions()
    _deliveries()
    _event_gates()


def _incoming_events() -> None:
    op.create_table(
        "incoming_events",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False, server_default="default"),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("key", sa.Text()),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("spread_at", _TIME),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_incoming_events")),
        sa.UniqueConstraint("tenant", "id", name=op.f("uq_incoming_events_tenant_id")),
    )
    op.create_index(
        "incoming_events_new", "incoming_events", ["number"], postgresql_where=sa.text("spread_at IS NULL")
    )
    op.create_index("incoming_events_alike", "incoming_events", ["tenant", "type", "key", "number"])
    op.create_index("incoming_events_recent", "incoming_events", ["at"])


def _subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("definition_id", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("deployed_at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("replaced_at", _TIME),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_subscriptions")),
        sa.ForeignKeyConstraint(
            ["definition_id"], ["definitions.id"], name=op.f("fk_subscriptions_definition_id_definitions")
        ),
        sa.CheckConstraint("version > 0", name=op.f("ck_subscriptions_version_from_one")),
    )
    op.create_index(
        "subscriptions_current",
        "subscriptions",
        ["name"],
        unique=True,
        postgresql_where=sa.text("replaced_at IS NULL"),
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("key", sa.Text()),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("reason", sa.Text()),
        sa.Column("at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.PrimaryKeyConstraint("event", "subscription", name=op.f("pk_deliveries")),
        sa.ForeignKeyConstraint(
            ["event"],
            ["incoming_events.number"],
            name=op.f("fk_deliveries_event_incoming_events"),
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "state IN ('new', 'held', 'started', 'dropped', 'failed')", name=op.f("ck_deliveries_state_known")
        ),
        sa.CheckConstraint(
            "(state = 'started') <= (run_id IS NOT NULL)", name=op.f("ck_deliveries_run_when_started")
        ),
        sa.CheckConstraint(
            "(state = 'failed') <= (reason IS NOT NULL)", name=op.f("ck_deliveries_reason_when_failed")
        ),
    )
    indexes = {
        "new": ["subscription", "version", "event"],
        "held": ["subscription", "tenant", "key", "event"],
        "failed": ["subscription", "event"],
    }
    for state, columns in indexes.items():
        where = sa.text(f"state = '{state}'")
        op.create_index(f"deliveries_{state}", "deliveries", columns, postgresql_where=where)


def _event_gates() -> None:
    op.create_table(
        "event_gates",
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("due_at", _TIME),
        sa.Column("opened_at", _TIME),
        sa.Column("held", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("shut_until", _TIME),
        sa.PrimaryKeyConstraint("subscription", "tenant", "key", name=op.f("pk_event_gates")),
        sa.CheckConstraint("(held > 0) = (due_at IS NOT NULL)", name=op.f("ck_event_gates_due_when_held")),
        sa.CheckConstraint(
            "(held > 0) = (opened_at IS NOT NULL)", name=op.f("ck_event_gates_opened_when_held")
        ),
    )
    op.create_index(
        "event_gates_due", "event_gates", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL")
    )
