"""Calls of tools: their log, results that answer equal calls, effects that are had once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "tool_calls",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("part_of", sa.Text()),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("arguments", JSONB(), nullable=False),
        sa.Column("result", JSONB()),
        sa.Column("error", sa.Text()),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("runs_on", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("at", _Time, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.CheckConstraint("(result IS NULL) <> (error IS NULL)", name=op.f("ck_tool_calls_result_or_error")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tool_calls")),
    )
    op.create_index("tool_calls_of_runs", "tool_calls", ["run_id", "at"])
    op.create_table(
        "tool_cache",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", JSONB()),
        sa.Column("error", sa.Text()),
        sa.Column("ended_at", _Time),
        sa.Column("holder", sa.Uuid(), nullable=False),
        sa.Column("lease_until", _Time, nullable=False),
        sa.Column("expires_at", _Time, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_tool_cache")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("tool_cache_expired", "tool_cache", ["expires_at"])
    op.create_table(
        "tool_fences",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("result", JSONB()),
        sa.Column("at", _Time, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_tool_fences")),
    )
    op.create_index("tool_fences_of_runs", "tool_fences", ["run_id"])
