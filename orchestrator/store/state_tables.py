"""The tables of what agents share.

A `state` is a value with a version, of a run, a step, or a key that runs of a tenant have in common. `state_writes`
remembers what each step has written, by the number of the call, so that a step that is tried again writes nothing
twice, and a run that is forked begins with what the steps had written that it begins with. A `session` counts the
messages of a conversation.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.store.metadata import Time, metadata

states = Table(
    "states",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    # The run that it goes with; that of a key goes with none.
    Column("run_id", Uuid),
    Column("written_at", Time, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("scope IN ('run', 'step', 'key')", name="scope_known"),
    CheckConstraint("(scope = 'key') = (run_id IS NULL)", name="run_unless_of_key"),
    Index("states_of_runs", "run_id", postgresql_where=text("run_id IS NOT NULL")),
    postgresql_with={"fillfactor": "80"},
)

state_writes = Table(
    "state_writes",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("path", Text, primary_key=True),
    # A session has no name.
    Column("scope", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("call", Integer, primary_key=True),
    Column("verb", Text, nullable=False),
    # What the call was given, what it returned, and the version that it made.
    Column("given", JSONB, nullable=False),
    Column("result", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("scope IN ('run', 'key', 'session')", name="scope_known"),
    CheckConstraint("call > 0", name="call_from_one"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("touched_at", Time, nullable=False, server_default=func.clock_timestamp()),
    postgresql_with={"fillfactor": "80"},
)

session_messages = Table(
    "session_messages",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("session", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("message", JSONB, nullable=False),
    Column("run_id", Uuid, nullable=False),
    Column("path", Text, nullable=False),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("number > 0", name="number_from_one"),
)
