"""Starts the runs of schedules that are due, exactly once each.

The transaction that creates a run moves the schedule to its next time, so a copy that dies before its commit has done
nothing, and one that dies after it leaves first steps that are due, which any copy's next look sends.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg import DataError, IntegrityError

from orchestrator.clock import timetable
from orchestrator.definitions.plan import Plan
from orchestrator.engine import Engine, Ready, Submission
from orchestrator.identify import new_id
from orchestrator.store import schedule_queries as sql
from orchestrator.store.connect import Conn
from schemas.errors import BatonError, IdempotencyConflict
from schemas.schedules import Missed, Timetable

log = logging.getLogger(__name__)

MOST = 200
"""Schedules that one transaction fires."""

ASIDE = 60.0
"""Seconds for which a process leaves to others what it cannot read, being older than who set it."""


class _Due(NamedTuple):
    name: str
    definition: str
    input: str
    cron: str | None
    every: float | None
    timezone: str
    missed: str
    alone: bool
    tenant: str
    priority: int
    labels: dict[str, str]
    next_at: datetime
    now: datetime
    occupied: bool

    @property
    def times(self) -> Timetable:
        return Timetable(cron=self.cron, every=self.every, timezone=self.timezone)


def labelled(name: str, labels: dict[str, str]) -> dict[str, str]:
    """The labels of a run that a schedule starts: they name it, unless they say something else."""
    return {"schedule": name, **labels}


class _Firing(NamedTuple):
    one: _Due
    times: list[datetime]
    """Those that are fired now."""
    next_at: datetime


class Recurrence:
    """Fires schedules in the name of one process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._aside: dict[str, float] = {}

    def fire(self) -> list[Ready]:
        """Start what is due; the first steps, to be sent now."""
        plans = self._plans()
        if not plans:
            return []
        with self._engine.pool.connection() as conn, conn.transaction():
            keys = {"definitions": list(plans), "most": MOST}
            due = [_Due(*row) for row in conn.execute(sql.TAKE_DUE_SCHEDULES, keys).fetchall()]
            runs = self._start(conn, due, plans)
        return self._engine.unsent(runs)

    def _plans(self) -> dict[str, Plan]:
        """The definitions of what is due, known and stored before any row is locked: both may need a connection."""
        now = time.monotonic()
        with self._engine.pool.connection() as conn:
            wanted = [one for (one,) in conn.execute(sql.SELECT_DUE_DEFINITIONS).fetchall()]
            plans = {}
            for definition in wanted:
                if self._aside.get(definition, 0.0) > now:
                    continue
                try:
                    plans[definition] = self._engine.plans.load(definition, conn)
                except (ValueError, BatonError):
                    log.exception(
                        "definition %s cannot be read here, so others fire its schedules", definition
                    )
                    self._aside[definition] = now + ASIDE
        for plan in plans.values():
            self._engine.plans.save(plan)
        return plans

    def _start(self, conn: Conn, due: Sequence[_Due], plans: Mapping[str, Plan]) -> list[UUID]:
        """Create the runs of these schedules, and move each to its next time."""
        firings = [firing for one in due if (firing := self._timed(one)) is not None]
        runs: dict[str, list[UUID]] = {firing.one.name: [] for firing in firings}
        by_plan: defaultdict[str, list[tuple[str, Submission]]] = defaultdict(list)
        for one, times, _ in firings:
            by_plan[one.definition] += [(one.name, _submission(one, at)) for at in times]
            if one.occupied:
                log.info("schedule %s: its last run goes on at %s, so it is left out", one.name, one.next_at)
            elif not times:
                log.warning("schedule %s: nobody was there at %s, so it is left out", one.name, one.next_at)
        for definition, wanted in by_plan.items():
            for name, run in self._submitted(conn, plans[definition], wanted):
                runs[name].append(run)
        moves = {
            "names": [firing.one.name for firing in firings],
            "next_ats": [firing.next_at for firing in firings],
            "runs": [made[-1] if made else None for made in runs.values()],
            "occupied": [firing.one.occupied for firing in firings],
        }
        conn.execute(sql.MOVE_SCHEDULES, moves)
        return [run for made in runs.values() for run in made]

    def _timed(self, one: _Due) -> _Firing | None:
        """Its times; None if they cannot be told here, say because this machine does not know its time zone."""
        now = time.monotonic()
        if self._aside.get(one.name, 0.0) > now:
            return None
        try:
            times = timetable.due(one.times, Missed(one.missed), one.next_at, one.now)
            if one.alone:
                times = [] if one.occupied else times[-1:]
            return _Firing(one, times, timetable.next_after(one.times, one.next_at, one.now))
        except Exception:
            log.exception("the times of schedule %s cannot be told here, so others fire it", one.name)
            self._aside[one.name] = now + ASIDE
            return None

    def _submitted(
        self, conn: Conn, plan: Plan, wanted: Sequence[tuple[str, Submission]]
    ) -> list[tuple[str, UUID]]:
        """The runs, but for those that are refused: their idempotency key is used for something else, say."""
        try:
            with conn.transaction():
                answers = self._engine.submit_on(conn, plan, [run for _, run in wanted]) if wanted else []
        except (IdempotencyConflict, DataError, IntegrityError) as error:
            if len(wanted) > 1:
                return [made for one in wanted for made in self._submitted(conn, plan, [one])]
            log.warning("schedule %s leaves out a run: %s", wanted[0][0], error)
            return []
        return [(name, answer.run_id) for (name, _), answer in zip(wanted, answers, strict=True)]


def _submission(one: _Due, at: datetime) -> Submission:
    return Submission(
        new_id(),
        one.input,
        tenant=one.tenant,
        priority=one.priority,
        labels=labelled(one.name, one.labels),
        idempotency_key=f"schedule {one.name} {at.isoformat()}",
    )
