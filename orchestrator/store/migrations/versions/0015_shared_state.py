"""What agents share, and the conversations they keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0012"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "states",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "scope", "owner", "name")),
        sa.Column("value", postgresql.JSONB(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("written_at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.PrimaryKeyConstraint("tenant", "scope", "owner", "name", name=op.f("pk_states")),
        sa.CheckConstraint("scope IN ('run', 'step', 'key')", name=op.f("ck_states_scope_known")),
        sa.CheckConstraint("(scope = 'key') = (run_id IS NULL)", name=op.f("ck_states_run_unless_of_key")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index("states_of_runs", "states", ["run_id"], postgresql_where=sa.text("run_id IS NOT NULL"))
    op.create_table(
        "state_writes",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("scope", "owner", "name")),
        sa.Column("call", sa.Integer(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("given", postgresql.JSONB(), nullable=False),
        sa.Column("result", postgresql.JSONB(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.PrimaryKeyConstraint(
            "run_id", "path", "scope", "owner", "name", "call", name=op.f("pk_state_writes")
        ),
        sa.CheckConstraint("scope IN ('run', 'key', 'session')", name=op.f("ck_state_writes_scope_known")),
        sa.CheckConstraint("call > 0", name=op.f("ck_state_writes_call_from_one")),
    )
    op.create_table(
        "sessions",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_sessions")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "session_messages",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("message", postgresql.JSONB(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.PrimaryKeyConstraint("tenant", "session", "number", name=op.f("pk_session_messages")),
        sa.CheckConstraint("number > 0", name=op.f("ck_session_messages_number_from_one")),
    )
