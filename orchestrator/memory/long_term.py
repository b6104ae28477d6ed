"""What agents remember of a tenant and a key, whichever run it was: passages of text with their words and vectors.

A step remembers once for each of its places, however often it is tried. What it recalls is told in the events of its
run at once: ids and scores, no texts, so that what is forgotten is gone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import DataError
from psycopg.rows import dict_row

from orchestrator.engine.patience import patiently
from orchestrator.masking.masker import discreet_json
from orchestrator.memory.fusion import Hit, fused
from orchestrator.memory.vectors import Vectors
from orchestrator.shared_state import Author, StaleAttempt, StateError
from orchestrator.store import memory_queries as sql
from orchestrator.store import vector_queries
from orchestrator.store.connect import Conn, Pool
from orchestrator.store.refusals import translated
from schemas.memory import Memory, MemorySettings, Recalled

FEW = 2_000
"""Memories whose vectors are all compared: about 15 ms of 1,536 dimensions. Beyond, the index is asked."""

BREADTH = 200
"""Memories that a search looks at for each of its words."""

WORDS = 16
"""Words of a query that are looked for."""

DEPTH = 50
"""Ranks that each search gives at least."""


class Meaning(NamedTuple):
    """A text as a vector, and what made it."""

    model: str
    vector: Sequence[float]


class Passage(NamedTuple):
    """What is to be remembered."""

    key: str
    kind: str
    text: str
    data: str
    """JSON text."""
    expires: float | None
    """Seconds from now."""
    meaning: Meaning | None


class Query(NamedTuple):
    """What is looked for, and where."""

    tenant: str
    keys: tuple[str, ...]
    kind: str | None
    text: str
    most: int
    least_score: float
    meaning: Meaning | None = None
    language: str | None = None
    """Another one than that of the app."""


class LongMemory:
    """The memories of one database; safe from many threads.

    What agents do waits while Postgres is away; who only looks (`memories`, `search`, `forget`) is told so.
    """

    def __init__(self, pool: Pool, settings: MemorySettings | None = None, *, vectors: bool = True) -> None:
        """Without `vectors` it is searched by words, as on a server that has no pgvector."""
        self._pool = pool
        self._language = (settings or MemorySettings()).language
        self.vectors = Vectors(pool, wanted=vectors)

    # --- for agents ---------------------------------------------------------------------------------------

    @patiently
    def remember(self, author: Author, place: int, passage: Passage) -> int:
        """Keep a passage; its id. At this place of its step, once: a later attempt finds what it has kept."""
        meaning = passage.meaning
        if meaning is not None:
            self.vectors.indexed(meaning.model, len(meaning.vector), make=True)
        keys = {
            **author._asdict(),
            **passage._asdict(),
            "place": place,
            "language": self._language,
            "marks": [_of_tenant(author.tenant), _of_key(author.tenant, passage.key)],
            "model": meaning.model if meaning else None,
            "vector": list(meaning.vector) if meaning else None,
        }
        del keys["meaning"]
        try:
            with self._pool.connection() as conn:
                row = conn.execute(sql.REMEMBER, keys).fetchone()
        except DataError as error:
            raise StateError(f"Postgres cannot remember it: {error.diag.message_primary}") from error
        if row is None:
            raise StaleAttempt
        return int(row[0])

    @patiently
    def recall(self, author: Author, query: Query) -> list[Recalled]:
        """What fits a query best, told in the events of the run."""
        near = self._is_near(query)
        with self._pool.connection() as conn, conn.transaction():
            found = self._found(conn, query, near=near)
            told = {
                "query": query.text,
                "keys": query.keys,
                "searched": "text" if query.meaning is None else "text and vectors",
                "found": [
                    {"id": one.id, "score": round(one.score, 4), "by": one.by, "fused": round(one.fused, 4)}
                    for one in found
                ],
            }
            self._tell(conn, author, told)
        return found

    @patiently
    def forget_once(self, author: Author, place: int, ids: Sequence[int], key: str | None) -> int:
        """Remove memories by their ids, or all of a key; how many there were. At this place of its step, once."""
        keys = {**author._asdict(), "place": place, "ids": list(ids), "key": key}
        with self._pool.connection() as conn:
            row = conn.execute(sql.FORGET_ONCE, keys).fetchone()
        if row is None:
            raise StaleAttempt
        return int(row[0])

    @patiently
    def tell_episodes(self, author: Author, key: str, runs: Sequence[UUID]) -> None:
        """That a step was shown past runs of a key."""
        with self._pool.connection() as conn:
            self._tell(conn, author, {"episodes": [str(run) for run in runs], "keys": [key]})

    def _tell(self, conn: Conn, author: Author, told: Mapping[str, Any]) -> None:
        keys = {**author._asdict(), "data": discreet_json(json.dumps(told))}
        if conn.execute(sql.TELL_RECALLED, keys).fetchone() is None:
            raise StaleAttempt

    # --- for people ---------------------------------------------------------------------------------------

    @translated()
    def memories(self, tenant: str, key: str | None, limit: int) -> list[Memory]:
        """The latest first; of all keys if none is named. Raises `Unavailable`."""
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(
                sql.LIST_MEMORIES, {"tenant": tenant, "key": key, "limit": limit}
            ).fetchall()
        return [Memory.model_validate(row) for row in rows]

    @translated()
    def search(
        self, tenant: str, key: str | None, text: str, most: int, language: str | None = None
    ) -> list[Recalled]:
        """What fits a text, by its words; of all keys if none is named. Raises `Unavailable`."""
        with self._pool.connection() as conn, conn.transaction():
            keys = (
                [key]
                if key is not None
                else [one for (one,) in conn.execute(sql.SELECT_KEYS, {"tenant": tenant})]
            )
            return self._found(
                conn, Query(tenant, tuple(keys), None, text, most, 0.0, language=language), near=False
            )

    @translated()
    def forget(self, tenant: str, ids: Sequence[int] | None, key: str | None) -> int:
        """Remove memories of a tenant, all of those that are named by id and key; how many there were.

        Raises `Unavailable`.
        """
        keys = {"tenant": tenant, "ids": list(ids) if ids is not None else None, "key": key}
        with self._pool.connection() as conn:
            return conn.execute(sql.FORGET, keys).rowcount

    @translated()
    def texts(self, run_id: UUID, ids: Sequence[int]) -> dict[int, str]:
        """What a run has read, as far as it is not forgotten. Raises `Unavailable`."""
        with self._pool.connection() as conn:
            rows = conn.execute(sql.SELECT_TEXTS, {"run": run_id, "ids": list(ids)}).fetchall()
        return dict(rows)

    # --- searching ----------------------------------------------------------------------------------------

    def _is_near(self, query: Query) -> bool:
        """Whether there is an index to look for neighbours. Asked before a connection is had: it may take one."""
        meaning = query.meaning
        return meaning is not None and self.vectors.indexed(meaning.model, len(meaning.vector))

    def _found(self, conn: Conn, query: Query, *, near: bool) -> list[Recalled]:
        depth = max(DEPTH, query.most)
        shares = self._by_words(conn, query, depth)
        similarities = None
        if query.meaning is not None:
            similarities = self._by_vector(conn, query, query.meaning, depth, near=near)
        hits = fused(shares, similarities, most=query.most, least_score=query.least_score)
        keys = {"tenant": query.tenant, "ids": [hit.id for hit in hits]}
        with conn.cursor(row_factory=dict_row) as cursor:
            rows = {row["id"]: row for row in cursor.execute(sql.SELECT_MEMORIES, keys)}
        return [_recalled(hit, rows[hit.id]) for hit in hits if hit.id in rows]

    def _by_words(self, conn: Conn, query: Query, depth: int) -> dict[int, float]:
        text = _without_dashes(query.text)
        keys = {
            **query._asdict(),
            "query": text,
            "language": query.language or self._language,
            "keys": list(query.keys),
            "marks": " | ".join(f"'{_of_key(query.tenant, key)}'" for key in query.keys),
            "words": WORDS,
            "breadth": BREADTH,
            # Who excludes a word means the others.
            "any": _EXCLUDES.search(text) is None,
            "most": depth,
        }
        del keys["meaning"]
        if not query.keys:
            return {}
        return dict(conn.execute(sql.FIND_WORDS, keys).fetchall())

    def _by_vector(
        self, conn: Conn, query: Query, meaning: Meaning, depth: int, *, near: bool
    ) -> dict[int, float]:
        dimensions = len(meaning.vector)
        keys = {**query._asdict(), "keys": list(query.keys), "most": depth, "model": meaning.model}
        keys |= {"vector": list(meaning.vector), "limit": FEW + 1, "breadth": 2 * depth}
        del keys["meaning"]
        (number,) = conn.execute(sql.COUNT_VECTORS, keys).fetchone() or (0,)
        if near and number > FEW:
            conn.execute(vector_queries.SEARCH_IN_ORDER, keys)
            rows = conn.execute(vector_queries.compare_near(meaning.model, dimensions), keys).fetchall()
        else:
            rows = conn.execute(vector_queries.COMPARE_ALL, keys).fetchall()
        return dict(sorted(rows, key=lambda row: (-row[1], -row[0])))


_EXCLUDES = re.compile(r"(^|\s)-\w")


def _without_dashes(text: str) -> str:
    """A dash that stands alone, as before the items of a list, excludes nothing."""
    return re.sub(r"(^|\s)-+(?=\s)", r"\1 ", text)


def _of_tenant(tenant: str) -> str:
    """The word that all memories of a tenant have in common. Words of texts never begin like this."""
    return "=t" + hashlib.sha256(tenant.encode()).hexdigest()[:32]


def _of_key(tenant: str, key: str) -> str:
    return "=k" + hashlib.sha256(f"{len(tenant)} {tenant} {key}".encode()).hexdigest()[:32]


def _recalled(hit: Hit, row: Mapping[str, Any]) -> Recalled:
    kept = ("text", "data", "key", "kind", "remembered_at", "run_id")
    return Recalled(**hit._asdict(), **{name: row[name] for name in kept})
