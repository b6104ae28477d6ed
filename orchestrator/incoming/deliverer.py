"""Starts what events from outside are subscribed to, once for each event and subscription.

The transaction that creates a run settles the deliveries that it was started for, so a copy that dies before its
commit has done nothing, and one that dies after it leaves first steps that are due, which any copy's next look sends.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import DataError, IntegrityError

from orchestrator.engine import Engine, Ready, Submission
from orchestrator.incoming.gates import StartGate
from orchestrator.incoming.judging import Arrival, Faulty, Judge, Judgement, State
from orchestrator.masking.masker import discreet
from orchestrator.store import delivery_queries as sql
from orchestrator.store import state_queries
from orchestrator.store.connect import Conn
from schemas.errors import BatonError, IdempotencyConflict
from schemas.state import Scope
from schemas.subscriptions import Subscription

log = logging.getLogger(__name__)

MOST = 200
"""Events that one transaction deals with."""

ASIDE = 60.0
"""Seconds for which a process leaves to others what it cannot read, being older than who deployed it."""

LONGEST = 2_000
"""Characters of a reason that are kept."""

_Group = tuple[str, str]
"""A tenant and a key; without a key it is empty."""


class Deliverer:
    """Delivers events in the name of one process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._judges: dict[tuple[str, int], Judge] = {}
        self._aside: dict[tuple[str, int], float] = {}

    def deliver(self) -> tuple[list[Ready], bool]:
        """Deal with what is new and what is due: first steps to be sent now, and whether there may be more."""
        with self._engine.pool.connection() as conn:
            row = conn.execute(sql.SPREAD, {"most": MOST}).fetchone()
            wanted = conn.execute(sql.SELECT_WANTED).fetchall()
            due = conn.execute(sql.SELECT_DUE_GATES, {"most": MOST}).fetchall()
        more = (row[0] if row is not None else 0) == MOST or len(due) == MOST
        runs: list[UUID] = []
        for one in wanted:
            if (judge := self._judge(*one)) is None:
                continue
            try:
                taken, made = self._judged(judge)
            except (DataError, IntegrityError):
                log.exception("the events of subscription %s cannot be dealt with here", judge.name)
                self._aside[judge.name, judge.version] = time.monotonic() + ASIDE
                continue
            runs += made
            more = more or taken == MOST
        for name, tenant, key, *version in due:
            if (judge := self._judge(name, *version)) is None:
                continue
            try:
                runs += self._opened(judge, (tenant, key))
            except (DataError, IntegrityError):
                log.exception("what subscription %s held back for %r cannot be dealt with here", name, key)
                self._aside[name, judge.version] = time.monotonic() + ASIDE
        return self._engine.unsent(runs) if runs else [], more

    def _judge(self, name: str, version: int, body: str, definition: str) -> Judge | None:
        """This version of a subscription, its definition stored; None if this process cannot read it."""
        if self._aside.get((name, version), 0.0) > time.monotonic():
            return None
        known = self._judges.get((name, version))
        if known is None:
            try:
                with self._engine.pool.connection() as conn:
                    plan = self._engine.plans.load(definition, conn)
                known = Judge(version, Subscription.model_validate_json(body), plan)
            except (ValueError, BatonError):
                log.exception("subscription %s cannot be read here, so others deal with its events", name)
                self._aside[name, version] = time.monotonic() + ASIDE
                return None
            self._judges[name, version] = known
        # Before any row is locked: both may need a connection.
        self._engine.plans.save(known.plan)
        return known

    # --- what is new --------------------------------------------------------------------------------------

    def _judged(self, judge: Judge) -> tuple[int, list[UUID]]:
        """Judge what one subscription was delivered: how many events, and the runs that they started."""
        with self._engine.pool.connection() as conn, conn.transaction():
            keys = {"name": judge.name, "version": judge.version, "most": MOST}
            arrivals = [Arrival(*row) for row in conn.execute(sql.TAKE_DELIVERIES, keys).fetchall()]
            states = _States(conn, judge)
            verdicts: dict[int, Judgement] = {}
            groups: list[tuple[Arrival, str | None]] = []
            passed = []
            for one in arrivals:
                try:
                    about = judge.key(one) if judge.asks_state else None
                    if judge.concerns(one, states.of(one, about)):
                        groups.append((one, judge.key(one)))
                    else:
                        passed.append(one.number)
                except Faulty as fault:
                    verdicts[one.number] = Judgement("failed", reason=str(fault))
            at_once = self._gated(conn, judge, groups, verdicts)
            verdicts |= self._started(conn, judge, at_once, states)
            if passed:
                conn.execute(sql.DELETE_UNCONCERNED, {"name": judge.name, "events": passed})
            _settle(conn, judge, verdicts)
        return len(arrivals), [one.run_id for one in verdicts.values() if one.run_id is not None]

    def _gated(
        self,
        conn: Conn,
        judge: Judge,
        groups: Sequence[tuple[Arrival, str | None]],
        verdicts: dict[int, Judgement],
    ) -> Sequence[tuple[Arrival, str | None]]:
        """Those of the events that may start something at once; the others are held back or dropped."""
        said = judge.subscription
        if not groups or (said.debounce is None and said.throttle is None):
            return groups
        gates, now = _lock_gates(conn, judge.name, {_group(one, key) for one, key in groups})
        at_once = []
        for one, key in groups:
            state = gates[_group(one, key)].pass_on(said, now)
            if state == "started":
                at_once.append((one, key))
            elif state == "held":
                verdicts[one.number] = Judgement("held", key or "")
            else:
                verdicts[one.number] = Judgement("dropped", key, reason="it came too soon after another one")
        _move_gates(conn, judge.name, gates)
        return at_once

    def _started(
        self, conn: Conn, judge: Judge, events: Sequence[tuple[Arrival, str | None]], states: _States
    ) -> dict[int, Judgement]:
        """Start a run for each of these events."""
        verdicts: dict[int, Judgement] = {}
        wanted = []
        for one, key in events:
            try:
                wanted.append((one.number, key, judge.submission([one], key, states.of(one, key))))
            except Faulty as fault:
                verdicts[one.number] = Judgement("failed", key, reason=str(fault))
        answers = self._submitted(conn, judge, [run for _, _, run in wanted])
        for (number, key, _), answer in zip(wanted, answers, strict=True):
            if isinstance(answer, UUID):
                verdicts[number] = Judgement("started", key, answer)
            else:
                verdicts[number] = Judgement("failed", key, reason=answer)
        return verdicts

    # --- what is due --------------------------------------------------------------------------------------

    def _opened(self, judge: Judge, group: _Group) -> list[UUID]:
        """Start a run with what was held back for a key, unless another copy does."""
        keys = {"name": judge.name, "tenant": group[0], "key": group[1]}
        with self._engine.pool.connection() as conn, conn.transaction():
            if conn.execute(sql.TAKE_DUE_GATE, keys).fetchone() is None:
                return []
            held = [Arrival(*row) for row in conn.execute(sql.SELECT_HELD, keys).fetchall()]
            chosen = judge.chosen(held)
            key = group[1] or None
            try:
                state = _States(conn, judge).of(held[0], key)
                (answer,) = self._submitted(conn, judge, [judge.submission(chosen, key, state)])
            except Faulty as fault:
                answer = str(fault)
            _settle(conn, judge, _verdicts(held, chosen, key, answer))
            conn.execute(sql.OPEN_GATE, keys | {"throttle": judge.subscription.throttle or 0.0})
        return [answer] if isinstance(answer, UUID) else []

    def _submitted(self, conn: Conn, judge: Judge, wanted: Sequence[Submission]) -> list[UUID | str]:
        """The runs, or why there is none: its idempotency key is used for something else, say."""
        if not wanted:
            return []
        try:
            with conn.transaction():
                return [one.run_id for one in self._engine.submit_on(conn, judge.plan, wanted)]
        except (IdempotencyConflict, DataError, IntegrityError) as error:
            if len(wanted) > 1:
                return [made for one in wanted for made in self._submitted(conn, judge, [one])]
            return [str(error).splitlines()[0]]


class _States:
    """What the runs of each key share, read once in a transaction, where a subscription asks for it."""

    def __init__(self, conn: Conn, judge: Judge) -> None:
        self._conn = conn
        self._judge = judge
        self._known: dict[_Group, State] = {}

    def of(self, one: Arrival, key: str | None) -> State:
        """The state of an event's key; empty for one without a key."""
        group = _group(one, key)
        if not self._judge.asks_state or key is None:
            return {}
        if group not in self._known:
            keys = {"tenant": one.tenant, "scope": Scope.KEY, "owner": key}
            rows = self._conn.execute(state_queries.SELECT_STATES, keys).fetchall()
            self._known[group] = {name: json.loads(text) for name, text, _ in rows}
        return self._known[group]


def _group(one: Arrival, key: str | None) -> _Group:
    return one.tenant, key or ""


def _verdicts(
    held: Sequence[Arrival], chosen: Sequence[Arrival], key: str | None, answer: UUID | str
) -> dict[int, Judgement]:
    taken = {one.number for one in chosen}
    verdicts = {}
    for one in held:
        if one.number not in taken:
            verdicts[one.number] = Judgement("dropped", key, reason="another one of its key was taken")
        elif isinstance(answer, UUID):
            verdicts[one.number] = Judgement("started", key, answer)
        else:
            verdicts[one.number] = Judgement("failed", key, reason=answer)
    return verdicts


def _settle(conn: Conn, judge: Judge, verdicts: Mapping[int, Judgement]) -> None:
    for number, one in verdicts.items():
        if one.state == "failed":
            log.warning("subscription %s sets event %d aside: %s", judge.name, number, one.reason)
    if verdicts:
        columns: dict[str, Any] = {
            "name": judge.name,
            "events": list(verdicts),
            "states": [one.state for one in verdicts.values()],
            "keys": [one.key for one in verdicts.values()],
            "runs": [one.run_id for one in verdicts.values()],
            "reasons": [one.reason and discreet(one.reason)[:LONGEST] for one in verdicts.values()],
        }
        conn.execute(sql.SETTLE_DELIVERIES, columns)


def _lock_gates(conn: Conn, name: str, groups: set[_Group]) -> tuple[dict[_Group, StartGate], float]:
    """The gates of these keys, which are ours from now on, and the time."""
    keys = {"name": name, "tenants": [tenant for tenant, _ in groups], "keys": [key for _, key in groups]}
    rows = conn.execute(sql.LOCK_GATES, keys).fetchall()
    return {(tenant, key): StartGate(*gate) for tenant, key, *gate, _ in rows}, max(row[-1] for row in rows)


def _move_gates(conn: Conn, name: str, gates: Mapping[_Group, StartGate]) -> None:
    columns: dict[str, Any] = {
        "name": name,
        "tenants": [tenant for tenant, _ in gates],
        "keys": [key for _, key in gates],
        "helds": [gate.held for gate in gates.values()],
        "opened_ats": [gate.opened_at for gate in gates.values()],
        "due_ats": [gate.due_at for gate in gates.values()],
        "shut_untils": [gate.shut_until for gate in gates.values()],
    }
    conn.execute(sql.MOVE_GATES, columns)
