"""The tables of who works: `workers` says who is alive, `dead_letters` which steps cost one worker after the
other, and which messages nobody could understand.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from orchestrator.store.metadata import Time, metadata

workers = Table(
    "workers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("throttled", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("concurrency", Integer, nullable=False),
    Column("pool", Text, nullable=False),
    Column("held", Integer, nullable=False, server_default="0"),
    Column("started_at", Time, nullable=False, server_default=func.now()),
    Column("seen_at", Time, nullable=False, server_default=func.now()),
    Column("lease_until", Time, nullable=False),
    Column("stopped_at", Time),
    Index("workers_alive", "lease_until", postgresql_where=text("stopped_at IS NULL")),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("queue", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", JSONB, nullable=False),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    # The step that was set aside, or neither for a message that no agent can run.
    Column("run_id", Uuid),
    Column("path", Text),
    Column("settled", Text),
    Column("settled_at", Time),
    CheckConstraint("(run_id IS NULL) = (path IS NULL)", name="step_or_message"),
    CheckConstraint("settled IN ('retried', 'dropped')", name="settled_known"),
    CheckConstraint("(settled IS NULL) = (settled_at IS NULL)", name="settled_when"),
    Index(
        "dead_letters_of_steps",
        "run_id",
        "path",
        unique=True,
        postgresql_where=text("settled IS NULL AND run_id IS NOT NULL"),
    ),
    Index("dead_letters_of_runs", "run_id", postgresql_where=text("run_id IS NOT NULL")),
)
