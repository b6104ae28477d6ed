"""Runs that pause, steps that wait or are set aside, forks; kinds of events are no longer listed here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RUN_STATES = "state IN ('queued', 'running', {}'completed', 'failed', 'cancelled')"
_STEP_STATES = "state IN ('pending', 'ready', 'running', 'open', {}'done', 'failed', 'skipped', 'cancelled')"
_UNFINISHED = "state IN ('pending', 'ready', 'running', 'open', 'waiting', 'dead')"


def _replace_check(table: str, name: str, condition: str) -> None:
    op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)


def upgrade() -> None:
    op.add_column("runs", sa.Column("paused_at", sa.DateTime(timezone=True)))
    op.add_column("runs", sa.Column("pause_reason", sa.Text()))
    op.add_column("runs", sa.Column("forked_from", sa.Uuid()))
    op.add_column("runs", sa.Column("forked_at", sa.Text()))
    _replace_check("runs", "state_known", _RUN_STATES.format("'paused', "))
    op.create_check_constraint(
        op.f("ck_runs_paused_since"), "runs", "(state = 'paused') = (paused_at IS NOT NULL)"
    )

    _replace_check("steps", "state_known", _STEP_STATES.format("'waiting', 'dead', "))
    op.drop_index("steps_unfinished", "steps")
    op.create_index(
        "steps_unfinished",
        "steps",
        ["run_id", "parent", sa.text("(- ordinal)")],
        postgresql_where=sa.text(_UNFINISHED),
    )

    op.drop_constraint(op.f("ck_events_kind_known"), "events")
    op.create_check_constraint(op.f("ck_events_kind_form"), "events", "kind ~ '^(run|step)[.][a-z_]+$'")

    op.add_column("dead_letters", sa.Column("run_id", sa.Uuid()))
    op.add_column("dead_letters", sa.Column("path", sa.Text()))
    op.add_column("dead_letters", sa.Column("settled", sa.Text()))
    op.add_column("dead_letters", sa.Column("settled_at", sa.DateTime(timezone=True)))
    for name, condition in (
        ("step_or_message", "(run_id IS NULL) = (path IS NULL)"),
        ("settled_known", "settled IN ('retried', 'dropped')"),
        ("settled_when", "(settled IS NULL) = (settled_at IS NULL)"),
    ):
        op.create_check_constraint(op.f(f"ck_dead_letters_{name}"), "dead_letters", condition)
    op.create_index(
        "dead_letters_of_steps",
        "dead_letters",
        ["run_id", "path"],
        unique=True,
        postgresql_where=sa.text("settled IS NULL AND run_id IS NOT NULL"),
    )
