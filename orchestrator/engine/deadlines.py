"""The deadlines of runs and fan-outs, fired once each, with their runs to themselves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.errors import LockNotAvailable

from orchestrator.compile import parent_of
from orchestrator.engine.advance import Advance, Join
from orchestrator.engine.ground import Ground
from orchestrator.engine.patience import unentangled
from orchestrator.engine.run_locks import owning, owning_idle
from orchestrator.engine.values import Ready, RunRef, error_text
from orchestrator.store import advance_queries
from orchestrator.store import timer_queries as sql
from orchestrator.store.connect import Conn

PATIENCE = 0.1
"""Seconds to wait for a run that somebody else holds."""

Key = tuple[UUID, str]
"""A run and the path of a fan-out in it, or an empty path for the run itself."""


class _Late(NamedTuple):
    run: RunRef
    path: str

    @property
    def error(self) -> str:
        """Why it ends, as JSON text."""
        if not self.path:
            limit = self.run.plan.workflow.timeout
            return error_text("DeadlineExceeded", f"the run took longer than its timeout of {limit:g} s")
        node: Any = self.run.plan.at(self.path).node
        return error_text("Late", f"it had not ended after {node.within:g} s")


class Deadlines(Ground):
    """Ends what took too long."""

    @unentangled
    def expire(self, *, most: int = 200) -> list[Ready]:
        """Fire the deadlines that have passed, once each, many runs in one transaction.

        A run that somebody else holds just now does not delay the others; afterwards the first of those is waited
        for, or a run that is never idle would put off its end for ever. The rest is left for the next look.
        """
        with self.pool.connection() as conn:
            late = _outermost(conn.execute(sql.SELECT_LATE, {"most": most}).fetchall())
            if not late:
                return []
            with owning_idle(conn, {run for run, _ in late}) as mine:
                ready = self._end(conn, [key for key in late if key[0] in mine])
            busy = [key for key in late if key[0] not in mine]
            if busy:
                first = busy[0][0]
                with suppress(LockNotAvailable), owning(conn, first, patience=PATIENCE):
                    ready += self._end(conn, [key for key in busy if key[0] == first])
        return ready

    def _end(self, conn: Conn, keys: Sequence[Key]) -> list[Ready]:
        if not keys:
            return []
        rows = conn.execute(sql.CONFIRM_LATE, _columns(keys)).fetchall()
        late = [
            _Late(RunRef(run, self.plans.load(plan, conn), urgency), path)
            for run, path, plan, urgency in rows
        ]
        if not late:
            return []
        columns = _columns([(one.run.id, one.path) for one in late])
        conn.execute(sql.SKIP_LATE, columns | {"errors": [one.error for one in late]})
        advance = Advance(conn)
        if runs := [one for one in late if not one.path]:
            _fail(conn, runs)
        if joins := [one for one in late if one.path]:
            conn.execute(sql.SETTLE_LATE, columns)
            for one in joins:
                advance.look(Join(one.run, one.path))
            advance.settle(wait=True)
        return advance.ready


def _outermost(keys: Sequence[Key]) -> list[Key]:
    """Without those that end with something around them that is late as well."""
    given = set(keys)
    return [key for key in keys if not any(around in given for around in _around(key))]


def _around(key: Key) -> list[Key]:
    run, path = key
    found = []
    while path:
        path = parent_of(path)
        found.append((run, path))
    return found


def _columns(keys: Sequence[Key]) -> dict[str, list[Any]]:
    return {"runs": [run for run, _ in keys], "paths": [path for _, path in keys]}


def _fail(conn: Conn, runs: Sequence[_Late]) -> None:
    ending = {
        "runs": [one.run.id for one in runs],
        "states": ["failed"] * len(runs),
        "output_refs": [None] * len(runs),
        "errors": [one.error for one in runs],
    }
    conn.execute(advance_queries.END_RUNS, ending)
