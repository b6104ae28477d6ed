"""Claims of agents with limits of the cluster: what is over one waits in Postgres for its turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from orchestrator.engine.claims import Claims
from orchestrator.engine.combine import Combiner
from orchestrator.engine.gates import Bar, GateRow, bars
from orchestrator.engine.gather import resolve_all
from orchestrator.engine.patience import patiently
from orchestrator.engine.values import Claimed, Pointer, Ready, Refused, WorkerId
from orchestrator.store import limit_queries as sql
from orchestrator.store.connect import Conn, Pool
from schemas.limits import Limit

GRACE = 5.0
"""Seconds for which an attempt that was cancelled or came too late still counts: its worker has to hear of it."""

WHOLE = -1
"""The place of an attempt, which is no place in its journal."""

_ANY = 1e9
"""Seconds: who waits for a place is next, whenever it looks again."""


class Wanted(NamedTuple):
    """A step of an agent with limits."""

    pointer: Pointer
    agent: str
    limits: tuple[Limit, ...]


class _Startable(NamedTuple):
    waited: bool
    bars: tuple[Bar, ...]


class _PutOff(NamedTuple):
    pointer: Pointer
    key: str
    due_at: datetime


class Limits(Claims):
    """Begins attempts as far as limits let them.

    Decisions about one limit follow one another: each holds its row. Agents without limits meet none of this.
    """

    def __init__(self, pool: Pool, worker: WorkerId | None = None) -> None:
        super().__init__(pool, worker)
        self.claim_all_within = patiently(self._claim_batch_within)
        """`claim_all_within([Wanted, ...]) -> [Claimed | Refused, ...]` in one transaction."""
        self.claim_within = Combiner(self.claim_all_within)
        """`claim_within(Wanted) -> Claimed | Refused`; safe from many threads, which share transactions."""

    @patiently
    def make_room(self, pointer: Pointer) -> list[Ready]:
        """An attempt of this step has ended: those who wait for its place, one for each limit that it stood under."""
        with self.pool.connection() as conn, conn.transaction():
            held = conn.execute(sql.TAKE_LIMITS_OF, {"run": pointer.run_id, "path": pointer.path}).fetchall()
            keys = [key for (key,) in held]
            if not keys:
                return []
            conn.execute(sql.DROP_ENDED_PERMITS, {"keys": keys, "grace": GRACE})
            return self.located(conn, conn.execute(sql.WAKE_NEXT, {"keys": keys}).fetchall())

    def _claim_batch_within(self, wanted: Sequence[Wanted]) -> list[Claimed | Refused]:
        with self.pool.connection() as conn, conn.transaction():
            startable = self._startable(conn, wanted)
            gates = gates_of(conn, {bar for one in startable.values() for bar in one.bars})
            put_off = _decide(startable, gates)
            _put_off(conn, put_off)
            closed = {one.pointer: one.key for one in put_off}
            # What has become startable meanwhile has not passed the gates.
            passed = [pointer for pointer in startable if pointer not in closed]
            started = [one for one in self._claim_on(conn, passed) if isinstance(one, Claimed)]
            _spend(conn, started, startable)
            won: dict[Pointer, Claimed | None] = {Pointer(one.run.id, one.path): one for one in started}
            return [
                won.pop(one.pointer, None) or self._turned_away(conn, one.pointer, closed) for one in wanted
            ]

    def _turned_away(self, conn: Conn, pointer: Pointer, closed: dict[Pointer, str]) -> Refused:
        if pointer in closed:
            return Refused(f"it waits for a limit: {closed[pointer]}")
        return self._refused(conn, pointer)

    def _startable(self, conn: Conn, wanted: Sequence[Wanted]) -> dict[Pointer, _Startable]:
        """Those of these steps that a claim would find, the oldest first."""
        by_pointer = {one.pointer: one for one in wanted}
        keys = {
            "runs": [run for run, _ in by_pointer],
            "paths": [path for _, path in by_pointer],
            "keyed": any(limit.key is not None for one in wanted for limit in one.limits),
        }
        found = {}
        for run, path, limited, tenant, definition, ref, given in conn.execute(
            sql.SELECT_STARTABLE, keys
        ).fetchall():
            one = by_pointer[Pointer(run, path)]
            if keys["keyed"] and given is None and ref is not None:
                given = self._gathered(conn, run, definition, path, ref)
            mine = tuple(bars(one.agent, one.limits, tenant, given, "steps"))
            found[one.pointer] = _Startable(limited is not None, mine)
        return found

    def _gathered(self, conn: Conn, run: UUID, definition: str, path: str, ref: str) -> str:
        plan = self.plans.load(definition, conn)
        return resolve_all(conn, run, plan, ref, plan.shape(path, ref.removeprefix("all:")))


def gates_of(conn: Conn, wanted: set[Bar]) -> dict[Bar, GateRow]:
    """The gates as they stand, with their rows held to the end of the transaction."""
    if not wanted:
        return {}
    ordered = list(wanted)
    keys = [bar.key for bar in ordered]
    conn.execute(sql.TAKE_LIMITS, {"keys": sorted(set(keys))})
    conn.execute(
        sql.DROP_ENDED_PERMITS, {"keys": [bar.key for bar in ordered if bar.interval is None], "grace": GRACE}
    )
    spacings = [_ANY if bar.interval is None else bar.interval for bar in ordered]
    rows = conn.execute(sql.SELECT_GATES, {"keys": keys, "spacings": spacings}).fetchall()
    found = {row[0]: row[1:] for row in rows}
    # Who declares one limit with several figures keeps to the smallest: what they start counts together.
    strictest = {bar.key: bar for bar in sorted(ordered, key=lambda bar: -bar.most)}
    gates = {key: GateRow(bar, *found[key]) for key, bar in strictest.items()}
    return {bar: gates[bar.key] for bar in ordered}


def _decide(startable: dict[Pointer, _Startable], gates: dict[Bar, GateRow]) -> list[_PutOff]:
    """Pass the steps through their gates; those before which one is closed."""
    put_off = []
    for pointer, step in startable.items():
        mine = [gates[bar] for bar in step.bars]
        closed = next((gate for gate in mine if not gate.opens(step.waited)), None)
        if closed is not None:
            put_off.append(_PutOff(pointer, closed.bar.key, closed.promise()))
            continue
        for gate in mine:
            gate.take()
    return put_off


def _put_off(conn: Conn, steps: Sequence[_PutOff]) -> None:
    if not steps:
        return
    columns = {
        "runs": [one.pointer.run_id for one in steps],
        "paths": [one.pointer.path for one in steps],
        "keys": [one.key for one in steps],
        "due": [one.due_at for one in steps],
    }
    conn.execute(sql.PUT_OFF, columns)


def _spend(conn: Conn, started: Sequence[Claimed], startable: dict[Pointer, _Startable]) -> None:
    """Write down what has started."""
    passed = [
        (bar, claimed) for claimed in started for bar in startable[Pointer(claimed.run.id, claimed.path)].bars
    ]
    if not passed:
        return
    rates: defaultdict[str, float] = defaultdict(float)
    for bar, _ in passed:
        if bar.interval is not None:
            rates[bar.key] += bar.interval
    granted = [(bar.key, claimed) for bar, claimed in passed if bar.interval is None]
    columns = {
        "rates": list(rates),
        "seconds": list(rates.values()),
        "keys": [key for key, _ in granted],
        "runs": [claimed.run.id for _, claimed in granted],
        "paths": [claimed.path for _, claimed in granted],
        "attempts": [claimed.attempt for _, claimed in granted],
        "places": [WHOLE] * len(granted),
    }
    conn.execute(sql.SPEND, columns)
