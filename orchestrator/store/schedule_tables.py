"""The table of `schedules`: which runs are to be started again and again."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.store.metadata import Time, metadata, one_of
from schemas.schedules import Missed, Overlap

schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("definition_id", Text, ForeignKey("definitions.id"), nullable=False),
    Column("workflow", Text, nullable=False),
    Column("input", JSONB, nullable=False),
    Column("cron", Text),
    Column("every", Double),
    Column("timezone", Text, nullable=False, server_default="UTC"),
    Column("missed", Text, nullable=False, server_default="one"),
    Column("overlap", Text, nullable=False, server_default="allow"),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    Column("labels", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("next_at", Time, nullable=False),
    Column("last_fired_at", Time),
    Column("last_run_id", Uuid),
    Column("left_out_at", Time),
    Column("created_at", Time, nullable=False, server_default=func.now()),
    CheckConstraint("(cron IS NULL) <> (every IS NULL)", name="cron_or_every"),
    CheckConstraint("every > 0", name="every_positive"),
    CheckConstraint(one_of("missed", Missed), name="missed_known"),
    CheckConstraint(one_of("overlap", Overlap), name="overlap_known"),
    CheckConstraint("priority BETWEEN 0 AND 9", name="priority_range"),
    Index("schedules_due", "next_at", postgresql_where=text("enabled")),
)
