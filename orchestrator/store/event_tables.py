"""The tables of events from outside.

An `incoming_event` is stored by whoever emits it, in its own transaction if it likes, and looked at afterwards. One
that is new is spread over the `subscriptions` to its type: a `delivery` for each, which is then judged by itself. A
subscription that changes gets a new version; an event is judged by the one that it was delivered to. Where starts are
debounced or throttled, an `event_gate` for each key says when the next one may be.

An event that steps of runs may be waiting for is also a `wake` for each of them, until that was looked into.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB

from orchestrator.store.metadata import Time, metadata

incoming_events = Table(
    "incoming_events",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant", Text, nullable=False, server_default="default"),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("key", Text),
    Column("payload", JSONB, nullable=False),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    Column("spread_at", Time),
    UniqueConstraint("tenant", "id"),
    Index("incoming_events_new", "number", postgresql_where=text("spread_at IS NULL")),
    # What came before somebody waited for it.
    Index("incoming_events_alike", "tenant", "type", "key", "at"),
    Index("incoming_events_of_type", "tenant", "type", "at"),
    Index("incoming_events_recent", "at"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("definition_id", Text, ForeignKey("definitions.id"), nullable=False),
    # As text: jsonb would forget the order of the labels.
    Column("body", JSON, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("deployed_at", Time, nullable=False, server_default=func.clock_timestamp()),
    Column("replaced_at", Time),
    CheckConstraint("version > 0", name="version_from_one"),
    Index("subscriptions_current", "name", unique=True, postgresql_where=text("replaced_at IS NULL")),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("event", BigInteger, ForeignKey("incoming_events.number", ondelete="CASCADE"), primary_key=True),
    Column("subscription", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("key", Text),
    Column("run_id", Uuid),
    Column("reason", Text),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("state IN ('new', 'held', 'started', 'dropped', 'failed')", name="state_known"),
    CheckConstraint("(state = 'started') <= (run_id IS NOT NULL)", name="run_when_started"),
    CheckConstraint("(state = 'failed') <= (reason IS NOT NULL)", name="reason_when_failed"),
    Index("deliveries_new", "subscription", "version", "event", postgresql_where=text("state = 'new'")),
    Index(
        "deliveries_held", "subscription", "tenant", "key", "event", postgresql_where=text("state = 'held'")
    ),
    Index("deliveries_failed", "subscription", "event", postgresql_where=text("state = 'failed'")),
)

wakes = Table(
    "wakes",
    metadata,
    Column("event", BigInteger, ForeignKey("incoming_events.number", ondelete="CASCADE"), primary_key=True),
    Column("wait", BigInteger, primary_key=True),
    Index("wakes_of_waits", "wait"),
)

event_gates = Table(
    "event_gates",
    metadata,
    Column("subscription", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    # When a run is started with what is held back.
    Column("due_at", Time),
    # When the first of what is held back came.
    Column("opened_at", Time),
    Column("held", Integer, nullable=False, server_default="0"),
    # Until when nothing more may start.
    Column("shut_until", Time),
    CheckConstraint("(held > 0) = (due_at IS NOT NULL)", name="due_when_held"),
    CheckConstraint("(held > 0) = (opened_at IS NOT NULL)", name="opened_when_held"),
    Index("event_gates_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)
