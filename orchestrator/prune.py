"""Removes what ended long ago, a little at a time, beside whatever else goes on.

Each batch is a transaction of about a tenth of a second, and a rest as long follows it. A run goes whole, with its
idempotency key, or not at all; one that has not ended is never touched. So the work may be stopped at any moment,
done twice at a time, and taken up again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, LiteralString, ParamSpec, Self, TypeVar
from uuid import UUID

import psycopg

from orchestrator.engine.run_locks import definition_key, run_key
from orchestrator.store import cost_queries
from orchestrator.store import prune_queries as sql
from orchestrator.store.connect import Conn
from schemas.errors import Conflict
from schemas.runs import RUN_ENDED, RunState

P = ParamSpec("P")
R = TypeVar("R")

BATCH_TIME = 0.1
"""Seconds that a batch should take; the number of its runs follows."""

MOST = 500
"""Runs of one batch at most."""

PAGE = 5_000
"""Rows of other tables that one batch looks at."""

LOCK_TIMEOUT = 1.0
"""Seconds that a statement waits for a lock."""

PATIENCE = 60
"""Batches in a row that may fail for want of a lock."""


@dataclass(frozen=True)
class Rule:
    """What is old enough to go."""

    older_than: float
    """Seconds since the run ended."""
    states: frozenset[RunState] = RUN_ENDED
    workflow: str | None = None
    tenant: str | None = None
    results: bool = False
    """Also all results, groups and chords of the Celery result backend that are as old, whoever's they are."""
    state_older_than: float | None = None
    """Seconds since somebody wrote what runs of a key share, or spoke in a conversation: beyond, it goes as well."""

    @property
    def of_some(self) -> bool:
        """Whether it is about some runs only; then what belongs to no run stays."""
        return self.states != RUN_ENDED or self.workflow is not None or self.tenant is not None


@dataclass(frozen=True)
class Removed:
    """Rows that are gone, or would go."""

    runs: int = 0
    steps: int = 0
    attempts: int = 0
    events: int = 0
    keys: int = 0
    """Idempotency keys."""
    dead_letters: int = 0
    definitions: int = 0
    workers: int = 0
    incoming_events: int = 0
    """Events from outside, with what became of them."""
    results: int = 0
    memories: int = 0
    """Those that had expired."""
    states: int = 0
    """Values that runs of a key had shared."""
    sessions: int = 0

    def __add__(self, other: Self) -> Self:
        mine, theirs = asdict(self), asdict(other)
        return type(self)(**{field.name: mine[field.name] + theirs[field.name] for field in fields(self)})


class Pruner:
    """Applies one rule to one database."""

    def __init__(self, database_url: str, rule: Rule) -> None:
        self._url = database_url
        self._rule = rule

    def count(self) -> Removed:
        """What would go now."""
        with self._connected() as (conn, keys):
            runs = Removed(*_one(conn, sql.COUNT_RUNS, keys))
            if self._rule.of_some:
                return runs
            workers, letters, incoming = _one(conn, sql.COUNT_OTHERS, keys)
            definitions = len(conn.execute(sql.SELECT_OLD_DEFINITIONS, keys).fetchall())
            memories, states, sessions = _one(conn, sql.COUNT_REMEMBERED, keys)
            (results,) = _one(conn, sql.COUNT_RESULTS, keys) if self._rule.results else (0,)
        return runs + Removed(
            definitions=definitions,
            workers=workers,
            dead_letters=letters,
            incoming_events=incoming,
            results=results,
            memories=memories,
            states=states,
            sessions=sessions,
        )

    def batches(self) -> Iterator[Removed]:
        """Remove it; what each batch removed, as it goes. Raises `Conflict` when locks stand in the way for long."""
        with self._connected() as (conn, keys):
            yield from self._runs(conn, keys)
            if not self._rule.of_some:
                yield from self._definitions(conn, keys)
                yield from _emptied(conn, sql.DELETE_WORKERS, keys, lambda n: Removed(workers=n))
                yield from _emptied(conn, sql.DELETE_SETTLED_LETTERS, keys, lambda n: Removed(dead_letters=n))
                yield from _emptied(conn, sql.DELETE_INCOMING, keys, lambda n: Removed(incoming_events=n))
                yield from _emptied(conn, sql.DELETE_GATES, keys, lambda n: Removed())
                for statement in (sql.DELETE_LIMITS, sql.DELETE_WINDOWS, sql.DELETE_OLD_WARNINGS):
                    yield from _emptied(conn, statement, keys, lambda n: Removed())
                yield from _emptied(conn, sql.DELETE_MEMORIES, keys, lambda n: Removed(memories=n))
                if self._rule.state_older_than is not None:
                    yield from _emptied(conn, sql.DELETE_KEY_STATES, keys, lambda n: Removed(states=n))
                    yield from _emptied(conn, sql.DELETE_SESSIONS, keys, lambda n: Removed(sessions=n))
                yield from _emptied(conn, sql.DELETE_TOOL_CACHE, keys, lambda n: Removed())
                if self._rule.results:
                    for page, delete in _RESULTS:
                        yield from _paged(conn, page, delete, keys)

    @contextmanager
    def _connected(self) -> Iterator[tuple[Conn, dict[str, Any]]]:
        """A connection of its own: those of the pool are set up for statements that look up rows by key."""
        with psycopg.connect(self._url, autocommit=True, application_name="baton prune") as conn:
            conn.execute(sql.LIMIT_WAITING, {"milliseconds": f"{LOCK_TIMEOUT * 1000:.0f}"})
            (cutoff,) = _one(conn, sql.SELECT_CUTOFF, {"older_than": self._rule.older_than})
            rule = self._rule
            (untouched,) = _one(conn, sql.SELECT_CUTOFF, {"older_than": rule.state_older_than})
            yield (
                conn,
                {
                    "cutoff": cutoff,
                    "untouched": untouched,
                    "states": sorted(rule.states),
                    "workflow": rule.workflow,
                    "tenant": rule.tenant,
                },
            )

    def _runs(self, conn: Conn, keys: Mapping[str, Any]) -> Iterator[Removed]:
        size = 10
        after: tuple[datetime | str, UUID] = ("-infinity", UUID(int=0))
        while True:
            position = {"after": after[0], "after_id": after[1], "most": size}
            found = conn.execute(sql.SELECT_OLD_RUNS, {**keys, **position}).fetchall()
            if not found:
                return
            began = time.monotonic()
            runs = [run_id for run_id, _ in found]
            yield _insisting(_remove_runs, conn, runs, keys)
            took = time.monotonic() - began
            after = (found[-1][1], found[-1][0])
            size = max(1, min(MOST, 2 * size, int(size * BATCH_TIME / max(took, 1e-3))))
            time.sleep(took)

    def _definitions(self, conn: Conn, keys: Mapping[str, Any]) -> Iterator[Removed]:
        found = [row for (row,) in conn.execute(sql.SELECT_OLD_DEFINITIONS, keys).fetchall()]
        for start in range(0, len(found), PAGE):
            some = found[start : start + PAGE]
            yield _insisting(_remove_definitions, conn, some)


def _remove_runs(conn: Conn, runs: Sequence[UUID], keys: Mapping[str, Any]) -> Removed:
    """Those of these runs that nobody holds, with everything that is theirs."""
    with conn.transaction():
        locks = {"runs": runs, "keys": [run_key(run) for run in runs]}
        free = [row for (row,) in conn.execute(sql.TRY_RUNS, locks).fetchall()]
        taken = [row for (row,) in conn.execute(sql.TAKE_RUNS, {**keys, "runs": free}).fetchall()]

        def delete(statement: LiteralString) -> int:
            return conn.execute(statement, {"runs": taken}).rowcount

        # The keys say which results are theirs.
        results = delete(sql.DELETE_RESULTS)
        for statement in (
            sql.DELETE_WAITS,
            sql.DELETE_JOURNAL,
            sql.DELETE_NOTICES,
            sql.DELETE_PERMITS,
            sql.DELETE_TOOL_CALLS,
            sql.DELETE_TOOL_FENCES,
            sql.DELETE_SPENDINGS,
            sql.DELETE_RESERVATIONS,
            sql.DELETE_WARNINGS,
            cost_queries.ROLL_UP,
            sql.DELETE_STATES,
            sql.DELETE_STATE_WRITES,
        ):
            delete(statement)
        return Removed(
            keys=delete(sql.DELETE_KEYS),
            dead_letters=delete(sql.DELETE_DEAD_LETTERS),
            events=delete(sql.DELETE_EVENTS),
            attempts=delete(sql.DELETE_ATTEMPTS),
            steps=delete(sql.DELETE_STEPS),
            runs=delete(sql.DELETE_RUNS),
            results=results,
        )


def _remove_definitions(conn: Conn, definitions: Sequence[str]) -> Removed:
    with conn.transaction():
        locks = {"definitions": definitions, "keys": [definition_key(one) for one in definitions]}
        free = [row for (row,) in conn.execute(sql.TRY_DEFINITIONS, locks).fetchall()]
        return Removed(definitions=conn.execute(sql.DELETE_DEFINITIONS, {"definitions": free}).rowcount)


def _emptied(
    conn: Conn, statement: LiteralString, keys: Mapping[str, Any], counted: Callable[[int], Removed]
) -> Iterator[Removed]:
    """Repeat a statement that removes `PAGE` rows at most until it finds no more."""
    while True:
        gone = _insisting(_remove, conn, statement, {**keys, "most": PAGE})
        yield counted(gone)
        if gone < PAGE:
            return


def _paged(
    conn: Conn, page: LiteralString, delete: LiteralString, keys: Mapping[str, Any]
) -> Iterator[Removed]:
    """Pass a table in the order of its ids, `PAGE` rows at a time."""
    after = ""
    while True:
        (last,) = _one(conn, page, {"after": after, "most": PAGE})
        if last is None:
            return
        bounds = {**keys, "after": after, "last": last}
        yield Removed(results=_insisting(_remove, conn, delete, bounds))
        after = last


_RESULTS = (
    (sql.SELECT_NEXT_RESULT, sql.DELETE_OLD_RESULTS),
    (sql.SELECT_NEXT_GROUP, sql.DELETE_OLD_GROUPS),
    (sql.SELECT_NEXT_CHORD, sql.DELETE_OLD_CHORDS),
)


_IN_THE_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.ForeignKeyViolation,  # a schedule that was made this moment
)


def _remove(conn: Conn, statement: LiteralString, keys: Mapping[str, Any]) -> int:
    return conn.execute(statement, keys).rowcount


def _insisting(batch: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do a batch, again if a lock was in its way: then nothing of it was done. Raises `Conflict`."""
    for _ in range(PATIENCE):
        try:
            return batch(*args, **kwargs)
        except _IN_THE_WAY as error:
            reason = error.diag.message_primary
            time.sleep(LOCK_TIMEOUT)
    raise Conflict(
        f"Somebody holds locks on the tables for long: {reason}",
        next_step="the same command later; what is gone is gone",
    )


def _one(conn: Conn, statement: LiteralString, keys: Mapping[str, Any]) -> tuple[Any, ...]:
    row = conn.execute(statement, keys).fetchone()
    assert row is not None  # noqa: S101  all of these have one row
    return row
