"""Runs that are started again and again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition_id", sa.Text(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("input", postgresql.JSONB(), nullable=False),
        sa.Column("cron", sa.Text()),
        sa.Column("every", sa.Double()),
        sa.Column("timezone", sa.Text(), nullable=False, server_default="UTC"),
        sa.Column("missed", sa.Text(), nullable=False, server_default="one"),
        sa.Column("tenant", sa.Text(), nullable=False, server_default="default"),
        sa.Column("priority", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("labels", postgresql.JSONB(), nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("next_at", _TIME, nullable=False),
        sa.Column("last_fired_at", _TIME),
        sa.Column("last_run_id", sa.Uuid()),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedules")),
        sa.ForeignKeyConstraint(
            ["definition_id"], ["definitions.id"], name=op.f("fk_schedules_definition_id_definitions")
        ),
        sa.CheckConstraint("(cron IS NULL) <> (every IS NULL)", name=op.f("ck_schedules_cron_or_every")),
        sa.CheckConstraint("every > 0", name=op.f("ck_schedules_every_positive")),
        sa.CheckConstraint("missed IN ('skip', 'one', 'all')", name=op.f("ck_schedules_missed_known")),
        sa.CheckConstraint("priority BETWEEN 0 AND 9", name=op.f("ck_schedules_priority_range")),
    )
    op.create_index("schedules_due", "schedules", ["next_at"], postgresql_where=sa.text("enabled"))
