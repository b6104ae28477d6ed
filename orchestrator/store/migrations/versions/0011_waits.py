"""Steps that wait for people, what a step has done inside, and what people are told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "waits",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request", postgresql.JSONB(), nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column("audience", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("escalate_to", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("escalate_after", sa.Double()),
        sa.Column("expires", sa.Double()),
        sa.Column("expiry", postgresql.JSONB()),
        sa.Column("asked_at", _TIME, nullable=False, server_default=sa.text("clock_timestamp()")),
        sa.Column("escalated_at", _TIME),
        sa.Column("settled_at", _TIME),
        sa.Column("settled_by", sa.Text()),
        sa.Column("decision", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("answer", postgresql.JSONB()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waits")),
        sa.CheckConstraint("kind ~ '^[a-z_]+$'", name=op.f("ck_waits_kind_form")),
        sa.CheckConstraint(
            "num_nulls(settled_at, settled_by, decision) IN (0, 3)", name=op.f("ck_waits_settled_as_a_whole")
        ),
        sa.CheckConstraint(
            "(expires IS NULL) = (expiry IS NULL)", name=op.f("ck_waits_expires_into_something")
        ),
    )
    is_open = sa.text("settled_at IS NULL")
    op.create_index("waits_open", "waits", ["run_id", "path"], unique=True, postgresql_where=is_open)
    op.create_index("waits_open_keys", "waits", ["kind", "key"], postgresql_where=is_open)
    op.create_index("waits_of_runs", "waits", ["run_id"])

    op.create_table(
        "journal",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False, server_default=sa.text("clock_timestamp()")),
        sa.PrimaryKeyConstraint("run_id", "path", "position", name=op.f("pk_journal")),
    )

    op.create_table(
        "notices",
        sa.Column("id", sa.Uuid(), nullable=False, server_default=sa.text("gen_random_uuid()")),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("body", postgresql.JSONB(), nullable=False),
        sa.Column("at", _TIME, nullable=False, server_default=sa.text("clock_timestamp()")),
        sa.Column("due_at", _TIME, server_default=sa.text("clock_timestamp()")),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("reached", postgresql.ARRAY(sa.Text()), nullable=False, server_default="{}"),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index("notices_due", "notices", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_index("notices_of_runs", "notices", ["run_id"])

    op.drop_constraint(op.f("ck_steps_output_of_leaf"), "steps")
    op.create_check_constraint(op.f("ck_steps_one_output"), "steps", "output IS NULL OR output_ref IS NULL")
    op.drop_constraint(op.f("ck_attempts_state_known"), "attempts")
    op.create_check_constraint(
        op.f("ck_attempts_state_known"),
        "attempts",
        "state IN ('done', 'failed', 'lost', 'released', 'skipped', 'cancelled', 'waiting')",
    )
