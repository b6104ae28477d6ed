"""Comparing vectors, on servers that have pgvector.

Vectors of one model are never compared with those of another: each model has an index of its own, whose expression
and condition have to stand in a statement as they are.
"""

from __future__ import annotations

import hashlib
from typing import LiteralString

from psycopg import sql

# Version 0.8 searches on behind a filter; a type that is not in the search path is none.
SELECT_VERSION: LiteralString = """
SELECT extversion FROM pg_extension WHERE extname = 'vector' AND to_regtype('halfvec') IS NOT NULL
"""

CREATE_EXTENSION: LiteralString = "CREATE EXTENSION IF NOT EXISTS vector"

SELECT_INDEX: LiteralString = """
SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%(index)s) AND indisvalid
"""

TRY_INDEXING: LiteralString = "SELECT pg_try_advisory_xact_lock(7008)"

LIMIT_WAITING: LiteralString = "SET LOCAL lock_timeout = '2s'"

# As half floats, of which twice as many dimensions have an index: those it finds are compared anew, in full.
_CREATE_INDEX: LiteralString = """
CREATE INDEX IF NOT EXISTS {index} ON memories USING hnsw ((vector::halfvec({dimensions})) halfvec_cosine_ops)
WHERE model = {model}
"""

# Over few memories, all of them.
COMPARE_ALL: LiteralString = """
WITH here AS MATERIALIZED (
    SELECT id, 1 - (vector::vector <=> %(vector)s::real[]::vector) AS similarity FROM memories
    WHERE tenant = %(tenant)s AND key = ANY (%(keys)s::text[]) AND (%(kind)s::text IS NULL OR kind = %(kind)s)
      AND (expires_at IS NULL OR expires_at > clock_timestamp()) AND model = %(model)s
)
SELECT id, similarity FROM here ORDER BY similarity DESC, id DESC LIMIT %(most)s
"""

# The index gives neighbours in order until enough of them are here, as far as `max_scan_tuples`.
SEARCH_IN_ORDER: LiteralString = """
SELECT set_config('enable_sort', 'off', true), set_config('hnsw.iterative_scan', 'strict_order', true),
       set_config('hnsw.ef_search', %(breadth)s::text, true)
"""

_COMPARE_NEAR: LiteralString = """
WITH near AS MATERIALIZED (
    SELECT id, vector FROM memories
    WHERE model = {model} AND tenant = %(tenant)s AND key = ANY (%(keys)s::text[])
      AND (%(kind)s::text IS NULL OR kind = %(kind)s) AND (expires_at IS NULL OR expires_at > clock_timestamp())
    ORDER BY vector::halfvec({dimensions}) <=> %(vector)s::real[]::halfvec({dimensions}) LIMIT %(most)s
)
SELECT id, 1 - (vector::vector <=> %(vector)s::real[]::vector) AS similarity FROM near
"""


def index_name(model: str) -> str:
    """The index of a model's vectors."""
    return f"memories_near_{hashlib.sha256(model.encode()).hexdigest()[:16]}"


def create_index(model: str, dimensions: int) -> sql.Composed:
    """Make the index of a model's vectors. Without data of that model it is made in a moment."""
    named = sql.Identifier(index_name(model))
    return sql.SQL(_CREATE_INDEX).format(
        index=named, dimensions=sql.Literal(dimensions), model=sql.Literal(model)
    )


def compare_near(model: str, dimensions: int) -> sql.Composed:
    """Look for neighbours by the index of a model."""
    return sql.SQL(_COMPARE_NEAR).format(dimensions=sql.Literal(dimensions), model=sql.Literal(model))
