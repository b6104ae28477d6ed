"""The deadlines of runs and fan-outs, fired once each, with their runs to themselves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.errors import LockNotAvailable

from orchestrator.definitions.plan import parent_of
from orchestrator.engine.advance import Advance, Join
from orchestrator.engine.child_runs import below
from orchestrator.engine.ground import Ground
from orchestrator.engine.ledger import Closing
from orchestrator.engine.patience import UNSTORABLE, unentangled
from orchestrator.engine.run_locks import owning, owning_idle
from orchestrator.engine.values import Ready, RunRef, error_text, reason_of
from orchestrator.store import timer_queries as sql
from orchestrator.store.connect import Conn

log = logging.getLogger(__name__)

PATIENCE = 0.1
"""Seconds to wait for a run that somebody else holds."""

_LAYERS = {"round": "round", "debate": "debate", "fan_out": "fan-out", "each": "fan-out"}
"""What has a time of its own around its branches, by its pattern."""

Key = tuple[UUID, str]
"""A run and the path of a fan-out in it, or an empty path for the run itself."""


class _Late(NamedTuple):
    run: RunRef
    path: str
    cause: str | None = None
    """Why it ends, as JSON text, if not because of its own time."""

    @property
    def error(self) -> str:
        """Why it ends, as JSON text."""
        if self.cause is not None:
            return self.cause
        if not self.path:
            limit = self.run.plan.workflow.timeout
            whose = f"its timeout of {limit:g} s" if limit is not None else "the run had that waits for it"
            return error_text("DeadlineExceeded", f"the run took longer than {whose}")
        node: Any = self.run.plan.at(self.path).node
        around = self.run.plan.at(parent_of(self.path)).node
        what = _LAYERS.get(around.pattern) or _LAYERS[node.pattern]
        return error_text("Late", f"the {what} took longer than {node.within:g} s")


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
            try:
                with owning_idle(conn, {run for run, _ in late}) as mine:
                    ready = self._end(conn, [key for key in late if key[0] in mine])
            except UNSTORABLE:
                return [one for run in {run for run, _ in late} for one in self._end_alone(conn, run, late)]
            busy = [key for key in late if key[0] not in mine]
            if busy:
                ready += self._end_alone(conn, busy[0][0], busy)
        return ready

    def _end_alone(self, conn: Conn, run: UUID, late: Sequence[Key]) -> list[Ready]:
        """Those of one run. If what follows cannot be stored, the run ends: it would be late again at each look."""
        keys = [key for key in late if key[0] == run]
        with suppress(LockNotAvailable):
            try:
                with owning(conn, run, patience=PATIENCE):
                    return self._end(conn, keys)
            except UNSTORABLE as error:
                cause = error_text(
                    "Unstorable", f"what follows a deadline cannot be stored: {reason_of(error)}"
                )
                try:
                    with owning(conn, run, patience=PATIENCE):
                        return self._end(conn, keys, cause)
                except UNSTORABLE:
                    log.exception("run %s is late, and cannot be ended here", run)
        return []

    def _end(self, conn: Conn, keys: Sequence[Key], cause: str | None = None) -> list[Ready]:
        """End what is late; with a `cause` (JSON text) the whole run."""
        if not keys:
            return []
        rows = conn.execute(sql.CONFIRM_LATE, _columns(keys)).fetchall()
        late = [
            _Late(RunRef(run, self.plans.load(plan, conn), urgency), path)
            for run, path, plan, urgency in rows
        ]
        if not late:
            return []
        if cause is not None:
            late = [_Late(late[0].run, "", cause)]
        late += self._started_by(conn, late)
        columns = _columns([(one.run.id, one.path) for one in late])
        conn.execute(sql.SKIP_LATE, columns | {"errors": [one.error for one in late]})
        conn.execute(sql.SETTLE_LATE, columns)
        advance = Advance(conn, self.plans)
        for one in late:
            if one.path:
                advance.look(Join(one.run, one.path))
            else:
                advance.endings.append(Closing(one.run, "", "failed", None, one.error))
        advance.settle(wait=True)
        return advance.ready

    def _started_by(self, conn: Conn, late: Sequence[_Late]) -> list[_Late]:
        """The runs that what is late waits for, and that are to end with it."""
        errors = {(one.run.id, one.path): one.error for one in late}
        return [
            _Late(
                RunRef(one.id, self.plans.load(one.definition, conn), one.priority),
                "",
                errors[one.root, one.path],
            )
            for one in below(conn, list(errors))
            if (one.id, "") not in errors
        ]


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
