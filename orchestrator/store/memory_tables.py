"""The table of what agents remember beyond a run.

`words` is what its text is found by: words by the language of its app, and one word each for its tenant and its key, so
that the index finds those of one customer without passing those of all others. `vector` stands for its meaning, by the
`model` that made it; it is an array, since a server may not have pgvector: where it has, there is an index for each
model, made when that model is first used (`vector_queries`).
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

from orchestrator.store.metadata import Time, metadata

memories = Table(
    "memories",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("words", TSVECTOR, nullable=False),
    Column("model", Text),
    Column("vector", ARRAY(REAL)),
    # The step that remembered it, and at which of its places: it remembers once.
    Column("run_id", Uuid, nullable=False),
    Column("path", Text, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("remembered_at", Time, nullable=False, server_default=func.clock_timestamp()),
    Column("expires_at", Time),
    CheckConstraint("(model IS NULL) = (vector IS NULL)", name="vector_of_model"),
    UniqueConstraint("run_id", "path", "place"),
    Index("memories_words", "words", postgresql_using="gin"),
    Index("memories_of_keys", "tenant", "key", "id"),
    Index("memories_expired", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
)
