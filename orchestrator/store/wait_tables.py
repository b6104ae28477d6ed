"""The tables of what is waited for: `waits` says what a step that is `waiting` waits for, and how that
ended; `notices` what people are still to be told.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
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

waits = Table(
    "waits",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("path", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("request", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("audience", ARRAY(Text), nullable=False),
    Column("escalate_to", ARRAY(Text), nullable=False),
    # Seconds; the clock itself is the step's `due_at`, which stands still while the run is paused.
    Column("escalate_after", Double),
    Column("expires", Double),
    Column("expiry", JSONB),
    Column("asked_at", Time, nullable=False, server_default=func.clock_timestamp()),
    Column("escalated_at", Time),
    # When it was looked whether the event that it is for had come before.
    Column("looked_at", Time),
    Column("settled_at", Time),
    Column("settled_by", Text),
    Column("decision", Text),
    Column("reason", Text),
    Column("answer", JSONB),
    CheckConstraint("kind ~ '^[a-z_]+$'", name="kind_form"),
    CheckConstraint("num_nulls(settled_at, settled_by, decision) IN (0, 3)", name="settled_as_a_whole"),
    CheckConstraint("(expires IS NULL) = (expiry IS NULL)", name="expires_into_something"),
    Index("waits_open", "run_id", "path", unique=True, postgresql_where=text("settled_at IS NULL")),
    # Who waits for this event?
    Index("waits_open_keys", "kind", "key", postgresql_where=text("settled_at IS NULL")),
    Index("waits_of_runs", "run_id"),
    # Who has taken an event?
    Index(
        "waits_taken",
        "run_id",
        "settled_by",
        postgresql_where=text("kind = 'event' AND settled_at IS NOT NULL"),
    ),
    Index(
        "waits_unseen",
        "id",
        postgresql_where=text("kind = 'event' AND settled_at IS NULL AND looked_at IS NULL"),
    ),
)

notices = Table(
    "notices",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
    Column("kind", Text, nullable=False),
    Column("run_id", Uuid, nullable=False),
    Column("path", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    # When it is to be sent next; NULL when it has arrived, or was given up.
    Column("due_at", Time, server_default=func.clock_timestamp()),
    Column("tries", Integer, nullable=False, server_default="0"),
    # Where it has arrived already.
    Column("reached", ARRAY(Text), nullable=False, server_default="{}"),
    Column("error", Text),
    Index("notices_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("notices_of_runs", "run_id"),
)
