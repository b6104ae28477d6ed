"""The tables of calls of tools.

A `tool_call` is one that was made, or answered from the cache: written when it has ended, for people to look at. The
`tool_cache` holds results that answer equal calls, and who just now computes one. A `tool_fence` is an effect that is
had once: it is put up before, and what came of it is written after.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.store.metadata import Time, metadata

tool_calls = Table(
    "tool_calls",
    metadata,
    # Made by whoever writes, so that it may write again what nobody has confirmed.
    Column("id", Uuid, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("path", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    # In the journal of the step.
    Column("place", Integer, nullable=False),
    Column("agent", Text, nullable=False),
    Column("tool", Text, nullable=False),
    # What the agent had called, where that tries several tools.
    Column("part_of", Text),
    Column("idempotency_key", Text, nullable=False),
    Column("arguments", JSONB, nullable=False),
    Column("result", JSONB),
    Column("error", Text),
    Column("cached", Boolean, nullable=False),
    # Its thread could not be stopped.
    Column("runs_on", Boolean, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("(result IS NULL) <> (error IS NULL)", name="result_or_error"),
    Index("tool_calls_of_runs", "run_id", "at"),
)

tool_cache = Table(
    "tool_cache",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", JSONB),
    # Of a call that failed: for those who waited for it.
    Column("error", Text),
    Column("ended_at", Time),
    # Whoever computes it has until then, and says again and again that it still does.
    Column("holder", Uuid, nullable=False),
    Column("lease_until", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Index("tool_cache_expired", "expires_at"),
    postgresql_with={"fillfactor": "70"},
)

tool_fences = Table(
    "tool_fences",
    metadata,
    Column("key", Text, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    # Whose it is: a try of writing it.
    Column("token", Uuid, nullable=False),
    Column("result", JSONB),
    Column("at", Time, nullable=False, server_default=func.clock_timestamp()),
    Index("tool_fences_of_runs", "run_id"),
)
