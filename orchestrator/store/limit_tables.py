"""The tables of what the workers of an agent keep to together.

A `limit` is one of them, of one agent, tenant or key: the row that a claim holds while it decides. A `permit` is an
attempt that it let start; whether that still counts is for the row of its step to say, so nobody has to give it back.
That of a call inside an attempt names its place in the journal: it is given back when the call ends, and counts no
longer than its attempt does.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text, Uuid, func

from orchestrator.store.metadata import Time, metadata

limits = Table(
    "limits",
    metadata,
    Column("key", Text, primary_key=True),
    # Of a rate: when all that has started is used up (the "theoretical arrival time" of GCRA).
    Column("free_at", Time, nullable=False, server_default=func.now()),
    Column("used_at", Time, nullable=False, server_default=func.clock_timestamp()),
    postgresql_with={"fillfactor": "50"},
)

permits = Table(
    "permits",
    metadata,
    Column("key", Text, primary_key=True),
    Column("run_id", Uuid, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    # The place of the call in the journal; -1 for the attempt itself.
    Column("place", Integer, primary_key=True, server_default="-1"),
    Index("permits_of_steps", "run_id", "path"),
)
