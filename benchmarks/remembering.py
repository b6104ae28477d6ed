"""How long it takes to remember, and to recall beside many memories: by words, by vectors, of one key among many."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg

from benchmarks.scenarios import Sizes
from benchmarks.thinking_agents import thinking
from orchestrator.definitions.compile import compile_workflow
from orchestrator.engine import Claimed, Engine, Pointer, Submission, WorkerId
from orchestrator.identify import new_id
from orchestrator.memory import long_term
from orchestrator.memory.long_term import LongMemory, Meaning, Passage, Query
from orchestrator.shared_state import Author
from orchestrator.store import schema
from orchestrator.store.connect import Pool
from orchestrator.store.vector_queries import create_index

DIMENSIONS = 384
"""Of a small model, such as all-MiniLM-L6-v2."""
MODEL = f"benchmark/{DIMENSIONS}"
TIMES = 60
"""Calls of one measurement."""
SMALL = 500
"""Memories of a key of its own."""
WORDS = 20_000

# Texts of 20 words, some of them frequent; vectors that lie about 50 subjects.
_LAY = """
INSERT INTO memories (tenant, key, kind, text, data, words, model, vector, run_id, path, place)
SELECT 'default', %(key)s, 'note', t.text, 'null',
       to_tsvector('english', t.text) || array_to_tsvector(%(marks)s::text[]),
       %(model)s, v.vector, %(run)s, '0', n
FROM generate_series(1000000, 999999 + %(number)s) n
CROSS JOIN LATERAL (
    SELECT string_agg('word' || floor(random() ^ 3 * %(vocabulary)s)::int, ' ') AS text
    FROM generate_series(1, 20) WHERE n > 0
) t CROSS JOIN LATERAL (
    SELECT array_agg(((random() - 0.5) + CASE WHEN mod(d, 50) = mod(n, 50) THEN 0.7 ELSE 0 END)::real) AS vector
    FROM generate_series(1, %(dimensions)s) d WHERE n > 0
) v
"""


@dataclass(frozen=True)
class Remembered:
    """How long one call took, with its event of the run; milliseconds."""

    title: str
    p50: float
    p99: float


def measure_remembering(database_url: str, sizes: Sizes) -> Iterator[Remembered]:
    """One caller, on a server of its own."""
    schema.upgrade(database_url)
    pool = Pool(database_url, size=2)
    store, author, draw = LongMemory(pool), _author(pool), random.Random(1)  # noqa: S311
    assert store.vectors.there(), "the embedded Postgres has pgvector"
    number, few = f"{sizes.memories:,}", f"{SMALL} of a key beside {sizes.memories:,}"
    _lay(database_url, {"big": sizes.memories, "small": SMALL})

    def recall(key: str, *, vector: bool) -> Callable[[int], Any]:
        return lambda _: store.recall(author, _query(draw, key, vector=vector))

    yield _timed(f"recall from {number}, by words", recall("big", vector=False))
    yield _timed(f"recall from {number}, by words and vectors", recall("big", vector=True))
    yield _timed(f"recall from {few}, by words and vectors", recall("small", vector=True))
    yield _timed("remember, with the vector's index", lambda n: _remember(store, author, draw, 1 + n))
    _end(pool, author)


def found_by_index(database_url: str) -> float:
    """The part of the truly nearest five that the index finds."""
    pool = Pool(database_url, size=2)
    store, draw, shares = LongMemory(pool), random.Random(2), []  # noqa: S311
    author = _author(pool)
    for _ in range(TIMES):
        query = _query(draw, "big", vector=True)._replace(text="?")
        near = {one.id for one in store.recall(author, query)}
        limit, long_term.FEW = long_term.FEW, 10**9
        try:
            exact = {one.id for one in store.recall(author, query)}
        finally:
            long_term.FEW = limit
        shares.append(len(near & exact) / max(1, len(exact)))
    _end(pool, author)
    return statistics.mean(shares)


def _timed(title: str, call: Callable[[int], Any]) -> Remembered:
    call(TIMES)  # plans its statements
    took = []
    for number in range(TIMES):
        began = time.perf_counter()
        call(number)
        took.append(1000 * (time.perf_counter() - began))
    return Remembered(title, statistics.median(took), statistics.quantiles(took, n=100)[-1])


def _author(pool: Pool) -> Author:
    """An attempt that runs."""
    engine = Engine(pool, WorkerId(uuid4(), "benchmark"))
    submission = Submission(new_id(), json.dumps({"turns": 0, "number": 0}))
    (answer,), _ = engine.submit(compile_workflow(thinking), [submission])
    claimed = engine.claim(Pointer(answer.run_id, "0"))
    assert isinstance(claimed, Claimed), claimed
    return Author(claimed.run.id, claimed.path, claimed.attempt, claimed.tenant)


def _end(pool: Pool, author: Author) -> None:
    """Else the workers of the next benchmark take its step for one that was lost."""
    Engine(pool).cancel(author.run_id)
    pool.close()


def _lay(url: str, numbers: Mapping[str, int]) -> None:
    """So many memories of each key, as if many runs had remembered them; then the index, which is quicker so."""
    with psycopg.connect(url, autocommit=True) as conn:
        for key, number in numbers.items():
            _lay_some(conn, key, number)
        conn.execute("SET maintenance_work_mem = '512MB'")
        conn.execute(create_index(MODEL, DIMENSIONS))
        conn.execute("VACUUM ANALYZE memories")


def _lay_some(conn: psycopg.Connection[Any], key: str, number: int) -> None:
    keys = {"key": key, "model": MODEL, "run": uuid4(), "number": number, "vocabulary": WORDS}
    keys |= {
        "dimensions": DIMENSIONS,
        "marks": [long_term._of_tenant("default"), long_term._of_key("default", key)],
    }
    conn.execute(_LAY, keys)


def _words(draw: random.Random, number: int) -> str:
    return " ".join(f"word{int(draw.random() ** 3 * WORDS)}" for _ in range(number))


def _vector(draw: random.Random) -> list[float]:
    subject = draw.randrange(50)
    return [draw.random() - 0.5 + (0.7 if d % 50 == subject else 0.0) for d in range(DIMENSIONS)]


def _query(draw: random.Random, key: str, *, vector: bool) -> Query:
    meaning = Meaning(MODEL, _vector(draw)) if vector else None
    return Query("default", (key,), None, _words(draw, 5), 5, 0.0, meaning)


def _remember(store: LongMemory, author: Author, draw: random.Random, place: int) -> None:
    meaning = Meaning(MODEL, _vector(draw))
    store.remember(author, place, Passage("big", "note", _words(draw, 20), "null", None, meaning))
