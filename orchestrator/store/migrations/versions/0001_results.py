"""The tables of the Celery result backend: results, saved groups, chords and their counted headers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "results",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        _moment("stored_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_results")),
        sa.CheckConstraint("id <> ''", name=op.f("ck_results_id_given")),
        sa.CheckConstraint("status <> ''", name=op.f("ck_results_status_given")),
    )
    op.create_table(
        "result_groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        _moment("stored_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result_groups")),
        sa.CheckConstraint("id <> ''", name=op.f("ck_result_groups_id_given")),
    )
    op.create_table(
        "chords",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=True),
        sa.Column("added", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=True),
        _moment("opened_at"),
        sa.Column("fired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chords")),
        sa.CheckConstraint("id <> ''", name=op.f("ck_chords_id_given")),
        sa.CheckConstraint("size >= 0 AND added >= 0", name=op.f("ck_chords_size_counts")),
        sa.CheckConstraint("done_at IS NULL OR fired_at IS NOT NULL", name=op.f("ck_chords_done_was_fired")),
        sa.CheckConstraint("fired_at IS NULL OR size IS NOT NULL", name=op.f("ck_chords_fired_was_sized")),
    )
    op.create_table(
        "chord_parts",
        sa.Column("chord_id", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("group_index", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        _moment("stored_at"),
        sa.PrimaryKeyConstraint("chord_id", "task_id", "group_index", name=op.f("pk_chord_parts")),
        sa.CheckConstraint("chord_id <> '' AND task_id <> ''", name=op.f("ck_chord_parts_ids_given")),
        sa.CheckConstraint("group_index >= 0", name=op.f("ck_chord_parts_index_counts")),
    )


def downgrade() -> None:
    for table in ("chord_parts", "chords", "result_groups", "results"):
        op.drop_table(table)


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
