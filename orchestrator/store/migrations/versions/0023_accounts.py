"""Budgets of tenants, agents and days, what calls in flight may cost, and what calls have cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("spendings", sa.Column("seconds", sa.Numeric(), server_default="0", nullable=False))
    _budgets()
    _costs()


def _budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("per", sa.Text(), nullable=False),
        sa.Column("terms", JSONB(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("created_at", _Time, server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("scope IN ('tenant', 'agent', 'all')", name=op.f("ck_budgets_scope_known")),
        sa.CheckConstraint("(scope = 'all') = (name = '')", name=op.f("ck_budgets_name_unless_all")),
        sa.CheckConstraint("per IN ('hour', 'day', 'month')", name=op.f("ck_budgets_per_known")),
        sa.CheckConstraint("origin IN ('operator', 'code')", name=op.f("ck_budgets_origin_known")),
        sa.CheckConstraint(
            "account = per || ':' || scope || ':' || name", name=op.f("ck_budgets_account_form")
        ),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_budgets")),
    )
    op.create_table(
        "budget_windows",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("opens_at", _Time, nullable=False),
        sa.Column("stripe", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("tokens", sa.Numeric(), nullable=False),
        sa.Column("usd", sa.Numeric(), nullable=False),
        sa.Column("model_calls", sa.Numeric(), nullable=False),
        sa.Column("seconds", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint("account", "opens_at", "stripe", name=op.f("pk_budget_windows")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "budget_warnings",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("opens_at", _Time, nullable=False),
        sa.PrimaryKeyConstraint("account", "opens_at", name=op.f("pk_budget_warnings")),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("usd", sa.Numeric(), nullable=False),
        sa.Column("model_calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", "account", name=op.f("pk_reservations")),
    )
    op.create_index("reservations_of_accounts", "reservations", ["account"])
    op.create_index("reservations_of_runs", "reservations", ["run_id"])


def _costs() -> None:
    op.create_table(
        "costs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usd", sa.Numeric(), nullable=False),
        sa.Column("model_calls", sa.BigInteger(), nullable=False),
        sa.Column("at", _Time, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_costs")),
    )
    op.create_index("costs_of_runs", "costs", ["run_id"])
    op.create_index("costs_recent", "costs", ["at"])
    op.create_table(
        "cost_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usd", sa.Numeric(), nullable=False),
        sa.Column("model_calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "workflow", "agent", "model", "tenant", "user", name=op.f("pk_cost_days")
        ),
    )
