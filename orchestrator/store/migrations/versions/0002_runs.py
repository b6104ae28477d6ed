"""The tables of runs: definitions, steps, attempts, events, workers, idempotency keys, dead letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "attempts",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("usage", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "state IN ('done', 'failed', 'lost', 'skipped', 'cancelled')",
            name=op.f("ck_attempts_state_known"),
        ),
        sa.PrimaryKeyConstraint("run_id", "path", "attempt", name=op.f("pk_attempts")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
    )
    op.create_table(
        "definitions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_definitions")),
    )
    op.create_index("definitions_name", "definitions", ["name", "created_at"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "data",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint(
            "kind IN ('run.submitted', 'run.started', 'run.completed', 'run.failed', 'run.cancelled', "
            "'run.resumed', 'step.opened', 'step.started', 'step.retrying', 'step.lost', 'step.done', "
            "'step.failed', 'step.skipped', 'step.progress')",
            name=op.f("ck_events_kind_known"),
        ),
        sa.CheckConstraint("number > 0", name=op.f("ck_events_number_from_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_events_run_id_number")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("held", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index(
        "workers_alive",
        "workers",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("stopped_at IS NULL"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("definition_id", sa.Text(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column(
            "labels",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("input", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("output_ref", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("degraded", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'completed') = (output_ref IS NOT NULL)", name=op.f("ck_runs_output_when_completed")
        ),
        sa.CheckConstraint(
            "(state = 'failed') <= (error IS NOT NULL)", name=op.f("ck_runs_error_when_failed")
        ),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'completed', 'failed')) = (finished_at IS NOT NULL)",
            name=op.f("ck_runs_finished"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_runs_state_known"),
        ),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_runs_priority_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(
        "runs_due", "runs", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index("runs_labels", "runs", ["labels"], unique=False, postgresql_using="gin")
    op.create_index("runs_recent", "runs", ["created_at"], unique=False)
    op.create_table(
        "steps",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("input", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("input_ref", sa.Text(), nullable=True),
        sa.Column("output", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("output_ref", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("usage", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(kind = 'agent') = (agent IS NOT NULL)", name=op.f("ck_steps_agent_when_leaf")),
        sa.CheckConstraint(
            "(state = 'done') = (output IS NOT NULL OR output_ref IS NOT NULL)",
            name=op.f("ck_steps_output_when_done"),
        ),
        sa.CheckConstraint("(state = 'open') <= (kind <> 'agent')", name=op.f("ck_steps_open_is_composite")),
        sa.CheckConstraint(
            "(state = 'running') <= (worker_id IS NOT NULL AND attempt > 0)",
            name=op.f("ck_steps_running_is_held"),
        ),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'done', 'failed', 'skipped')) = (finished_at IS NOT NULL)",
            name=op.f("ck_steps_finished"),
        ),
        sa.CheckConstraint(
            "kind = 'agent' OR state NOT IN ('ready', 'running')", name=op.f("ck_steps_composite_never_runs")
        ),
        sa.CheckConstraint(
            "kind IN ('agent', 'pipeline', 'fan_out', 'each')", name=op.f("ck_steps_kind_known")
        ),
        sa.CheckConstraint("output IS NULL OR kind = 'agent'", name=op.f("ck_steps_output_of_leaf")),
        sa.CheckConstraint(
            "state IN ('pending', 'ready', 'running', 'open', 'done', 'failed', 'skipped', 'cancelled')",
            name=op.f("ck_steps_state_known"),
        ),
        sa.CheckConstraint("(input IS NULL) <> (input_ref IS NULL)", name=op.f("ck_steps_one_input")),
        sa.PrimaryKeyConstraint("run_id", "path", name=op.f("pk_steps")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "steps_due", "steps", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index(
        "steps_joins",
        "steps",
        ["run_id", "path"],
        unique=False,
        postgresql_where=sa.text("state = 'open' AND kind IN ('fan_out', 'each')"),
    )
    op.create_index(
        "steps_pending",
        "steps",
        ["run_id", "parent", "ordinal"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "steps_ready", "steps", ["ready_at"], unique=False, postgresql_where=sa.text("state = 'ready'")
    )
    op.create_index(
        "steps_running", "steps", ["worker_id"], unique=False, postgresql_where=sa.text("state = 'running'")
    )
    op.create_index(
        "steps_unfinished",
        "steps",
        ["run_id", "parent", "ordinal"],
        unique=False,
        postgresql_where=sa.text("state IN ('pending', 'ready', 'running', 'open')"),
    )
