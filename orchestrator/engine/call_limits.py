"""Calls of tools and models under limits of the cluster: each asks before it is made, and gives back its place after.

A call that has to wait for long ends its attempt, with the outcome `Limited`. Its step waits as one of an agent over
its limit does, and its next attempt, which finds all before this call in the journal, asks again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine.gates import CALLS, Bar, GateRow
from orchestrator.engine.ground import Ground
from orchestrator.engine.limits import gates_of
from orchestrator.engine.patience import patiently
from orchestrator.engine.values import Ready
from orchestrator.store import call_limit_queries as sql
from orchestrator.store import limit_queries
from orchestrator.store.connect import Conn


class CallBefore(NamedTuple):
    """A call that stands before its gates."""

    run_id: UUID
    path: str
    attempt: int
    place: int
    """Where it will stand in the journal."""
    bars: tuple[Bar, ...]


class Admission(NamedTuple):
    """Whether a call may be made now, and if not, what it waits for."""

    passes: bool = False
    stopped: bool = False
    """Its attempt is no longer the one that runs."""
    limit: str = ""
    due_in: float = 0.0
    """Seconds until it should ask again."""
    certain: bool = False
    """Whether it is known when it is its turn: a rate tells, a place is free when somebody gives it back."""


class CallLimits(Ground):
    """Lets calls pass as far as limits let them."""

    @patiently
    def admit_calls(self, calls: Sequence[CallBefore]) -> tuple[list[Admission], list[Ready]]:
        """Which of these may be made now, in one transaction; and steps that wait for a place that is free."""
        with self.pool.connection() as conn, conn.transaction():
            callers = conn.execute(sql.SELECT_CALLERS, _columns(calls) | {"worker": self.me.id}).fetchall()
            gates = gates_of(conn, {bar for call in calls for bar in call.bars})
            verdicts = [
                _verdict([gates[bar] for bar in call.bars], waited) if runs else Admission(stopped=True)
                for call, (runs, waited) in zip(calls, callers, strict=True)
            ]
            _spend(conn, [call for call, one in zip(calls, verdicts, strict=True) if one.passes])
            room = {
                bar
                for bar, gate in gates.items()
                if bar.interval is None and gate.crowded and gate.held < bar.most
            }
            woken = self._next(conn, (), room, durable="on") if room else []
        return verdicts, woken

    @patiently
    def give_back(self, calls: Sequence[CallBefore]) -> list[Ready]:
        """These calls have ended: the steps that may ask for their places."""
        bars = {bar for call in calls for bar in call.bars if bar.interval is None}
        with self.pool.connection() as conn:
            return self._next(conn, calls, bars, durable="off")

    def _next(self, conn: Conn, calls: Sequence[CallBefore], bars: set[Bar], *, durable: str) -> list[Ready]:
        most: dict[str, int] = {}
        for bar in bars:  # agents may declare different limits of one model
            most[bar.key] = min(bar.most, most.get(bar.key, bar.most))
        keys = {"keys": list(most), "most": list(most.values()), "durable": durable}
        rows = conn.execute(sql.GIVE_BACK, _columns(calls) | keys).fetchall()
        return self.located(conn, [row[:2] for row in rows if row[0] is not None])


def _verdict(gates: Sequence[GateRow], waited: bool) -> Admission:
    closed = next((gate for gate in gates if not gate.opens(waited)), None)
    if closed is not None:
        due = closed.promise(CALLS)
        certain = closed.bar.interval is not None
        return Admission(limit=closed.bar.key, due_in=(due - closed.now).total_seconds(), certain=certain)
    for gate in gates:
        gate.take()
    return Admission(passes=True)


def _spend(conn: Conn, passed: Sequence[CallBefore]) -> None:
    if not passed:
        return
    rates: defaultdict[str, float] = defaultdict(float)
    for bar in (bar for call in passed for bar in call.bars):
        if bar.interval is not None:
            rates[bar.key] += bar.interval
    granted = [(bar.key, call) for call in passed for bar in call.bars if bar.interval is None]
    columns = _columns([call for _, call in granted])
    spent = {"rates": list(rates), "seconds": list(rates.values()), "keys": [key for key, _ in granted]}
    conn.execute(limit_queries.SPEND, columns | spent)


def _columns(calls: Sequence[CallBefore]) -> dict[str, list[Any]]:
    return {
        "runs": [call.run_id for call in calls],
        "paths": [call.path for call in calls],
        "attempts": [call.attempt for call in calls],
        "places": [call.place for call in calls],
    }
