"""Brings together events from outside and the steps that wait for them, whichever of the two was first."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine.advance import Advance
from orchestrator.engine.expecting import Misfit, is_meant
from orchestrator.engine.fork import follows
from orchestrator.engine.json_texts import Unreadable, read
from orchestrator.engine.moves import Place
from orchestrator.engine.patience import UNSTORABLE, unentangled
from orchestrator.engine.plans import Plans
from orchestrator.engine.run_locks import sharing
from orchestrator.engine.values import Ready, RunRef
from orchestrator.engine.waits import WaitEnd, Waits, end_waits
from orchestrator.store import waking_queries as sql
from orchestrator.store.connect import Conn, Pool
from schemas.errors import BatonError
from schemas.events import EventKind
from schemas.workflows import WaitFor

log = logging.getLogger(__name__)

ASIDE = 60.0
"""Seconds for which a process leaves to others the runs whose definition it cannot read, being older."""

MOST = 100
"""New waits, and events with a wait each, that one transaction looks into."""

ROUNDS = 10
"""Transactions of one look at most."""

PAGE = 200
"""Events that had come before which are looked at together."""


_Candidate = tuple[int, UUID, str, int | None]
"""A wait, its run, the definition of that, and the event that it may be for; none for a wait that is new."""


class _Came(NamedTuple):
    """An event."""

    number: int
    id: str
    payload: str


class _Wait(NamedTuple):
    """A step that waits for an event."""

    id: int
    run: RunRef
    path: str
    key: str
    tenant: str
    input_ref: str

    @property
    def node(self) -> WaitFor:
        node = self.run.plan.at(self.path).node
        assert isinstance(node, WaitFor)  # noqa: S101  only these wait for events
        return node


class Woken(NamedTuple):
    """What may be sent, and whether there may be more to look into."""

    ready: list[Ready]
    more: bool


class Waking(Waits):
    """Ends waits with the events that they are for."""

    def __init__(self, pool: Pool, worker: Any = None) -> None:
        super().__init__(pool, worker)
        self._aside: dict[str, float] = {}

    def wake(self) -> Woken:
        """Look for earlier events for new waits, and for waits for new events.

        A wait that ends may begin another one, whose event has come before, too: so again, for a while.
        """
        ready: list[Ready] = []
        for _ in range(ROUNDS):
            woken = self._wake()
            ready += woken.ready
            if not woken.more:
                return Woken(ready, more=False)
        return Woken(ready, more=True)

    @unentangled
    def _wake(self) -> Woken:
        """One look, in one transaction."""
        now = time.monotonic()
        aside = [definition for definition, until in self._aside.items() if until > now]
        with self.pool.connection() as conn:
            found = conn.execute(sql.SELECT_CANDIDATES, {"most": MOST, "aside": aside}).fetchall()
            known = [row for row in found if self._knows(conn, row[2])]
            if not known:
                return Woken([], more=bool(found))
            ready, ended = self._look(conn, known)
            return Woken(ready, more=ended or len(found) >= MOST)

    def _look(self, conn: Conn, found: Sequence[_Candidate]) -> tuple[list[Ready], bool]:
        """What may be sent, and whether any wait has ended. One that cannot end is no concern of the others."""
        try:
            with sharing(conn, {run for _, run, _, _ in found}):
                advance = Advance(conn, self.plans)
                look = _Look(conn, self.plans, advance)
                look.back([wait for wait, _, _, event in found if event is None])
                look.at([(event, wait) for wait, _, _, event in found if event is not None])
                advance.settle()
        except UNSTORABLE as error:
            if len(found) == 1:
                wait, run, _, _ = found[0]
                return self.give_up_wait(conn, wait, run, error), True
            looks = [self._look(conn, [one]) for one in found]
            return [one for ready, _ in looks for one in ready], any(ended for _, ended in looks)
        return advance.ready + self.settle(conn, advance.unsettled), bool(look.ended)

    def _knows(self, conn: Conn, definition: str) -> bool:
        if self._aside.get(definition, 0.0) > time.monotonic():
            return False
        try:
            self.plans.load(definition, conn)
        except (ValueError, BatonError):
            log.exception("definition %s cannot be read here, so others wake its steps", definition)
            self._aside[definition] = time.monotonic() + ASIDE
            return False
        return True


def _taker(came: _Came) -> str:
    """Who ends a wait with this event."""
    return f"event {came.number}"


class _Look:
    """One look, within a transaction that holds the runs."""

    def __init__(self, conn: Conn, plans: Plans, advance: Advance) -> None:
        self._conn = conn
        self._plans = plans
        self._advance = advance
        self.ended: set[int] = set()
        self._seen: set[tuple[int, int]] = set()
        self._inputs: dict[int, Any] = {}

    def back(self, waits: Sequence[int]) -> None:
        """Whether what these new waits are for had come before."""
        if not waits:
            return
        rows = self._conn.execute(sql.TAKE_UNSEEN, {"waits": waits}).fetchall()
        mine = [self._wait(row) for row in rows]
        for wait in mine:
            for came in self._earlier(wait):
                if self._tried(wait, came):
                    break
        self._conn.execute(sql.NOTE_LOOKED, {"waits": [wait.id for wait in mine]})

    def at(self, wakes: Sequence[tuple[int, int]]) -> None:
        """Whether these events are what the waits are for."""
        if not wakes:
            return
        keys = {"events": [event for event, _ in wakes], "waits": [wait for _, wait in wakes]}
        taken = []
        for *row, is_open, number, id, payload in self._conn.execute(sql.TAKE_WAKES, keys).fetchall():
            if is_open:
                self._tried(self._wait(tuple(row)), _Came(number, id, payload))
            taken.append((number, row[0]))
        keys = {"events": [event for event, _ in taken], "waits": [wait for _, wait in taken]}
        self._conn.execute(sql.DELETE_WAKES, keys)

    def _wait(self, row: tuple[Any, ...]) -> _Wait:
        wait, run_id, path, key, definition, priority, paused, tenant, ref = row
        run = RunRef(run_id, self._plans.load(definition, self._conn), priority, paused)
        return _Wait(wait, run, path, key, tenant, ref)

    def _earlier(self, wait: _Wait) -> Iterator[_Came]:
        """The events that came before and have its type and key, the oldest first."""
        type_, _, about = wait.key.partition(" ")
        keys: dict[str, Any] = {
            "run": wait.run.id,
            "wait": wait.id,
            "tenant": wait.tenant,
            "type": type_,
            "key": about,
            "lookback": wait.node.lookback,
            "after": datetime.min.replace(tzinfo=UTC),
            "after_number": 0,
            "most": PAGE,
        }
        statement = sql.SELECT_EARLIER_OF_KEY if about else sql.SELECT_EARLIER
        while True:
            rows = self._conn.execute(statement, keys).fetchall()
            for number, id, payload, at in rows:
                yield _Came(number, id, payload)
                keys |= {"after": at, "after_number": number}
            if len(rows) < PAGE:
                return

    def _tried(self, wait: _Wait, came: _Came) -> bool:
        """End a wait with this event, if it is the one; whether it has ended."""
        if wait.id in self.ended:
            return True
        if (wait.id, came.number) in self._seen or self._is_taken(wait, came):
            return False
        self._seen.add((wait.id, came.number))
        given = self._input(wait)
        try:
            if not is_meant(wait.node, given, read(came.payload)):
                return False
        except (Misfit, Unreadable) as misfit:
            told = {"message": f"the event {came.id} was passed over: {misfit}", "event": came.id}
            self._advance.note(Place(wait.run, wait.path), EventKind.STEP_WARNING, told)
            return False
        told = {"choice": came.id, "by": "event", "reason": f"the event {wait.key} came"}
        end = WaitEnd(wait.id, "came", _taker(came), "done", output=came.payload, told=told)
        self.ended |= end_waits(self._plans, self._advance, [end])
        return True

    def _is_taken(self, wait: _Wait, came: _Came) -> bool:
        """Whether a step before this one has taken the event: who waits again waits for another one."""
        keys = {"run": wait.run.id, "wait": wait.id, "by": _taker(came)}
        taken = [path for (path,) in self._conn.execute(sql.SELECT_TAKEN, keys).fetchall()]
        return any(path != wait.path and follows(wait.run.plan, wait.path, path) for path in taken)

    def _input(self, wait: _Wait) -> Any:
        """What the step was given."""
        if wait.node.when is None:
            return None
        if wait.id not in self._inputs:
            self._inputs[wait.id] = self._advance.value(wait.run, wait.input_ref)
        return self._inputs[wait.id]
