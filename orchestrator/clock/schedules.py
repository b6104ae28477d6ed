"""Schedules as people and programs set them. What fires them is `orchestrator.clock.recurrence`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

from psycopg.errors import ForeignKeyViolation
from psycopg.rows import dict_row

from orchestrator.clock import timetable
from orchestrator.clock.recurrence import labelled
from orchestrator.definitions.plan import Plan
from orchestrator.engine import Engine, Submission
from orchestrator.identify import new_id
from orchestrator.intake.submitter import Submitter, Terms
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.store import schedule_queries as sql
from orchestrator.store.connect import Conn
from orchestrator.store.recovery_queries import SELECT_NOW
from orchestrator.store.refusals import translated
from schemas.errors import Conflict, Fault, InputError, NotFound
from schemas.schedules import Missed, Overlap, Schedule, Timetable
from schemas.workflows import Workflow

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Schedules:
    """All schedules of one database."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher, submitter: Submitter) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._submitter = submitter

    def put(
        self,
        name: str,
        workflow: Workflow | str,
        value: Any,
        times: Timetable,
        terms: Terms,
        *,
        missed: Missed | str = Missed.ONE,
        overlap: Overlap | str = Overlap.ALLOW,
        replace: bool = True,
    ) -> Schedule:
        """Set a schedule. One that is there already with the same times keeps its next one, and stays paused.

        Raises `InputError`, `NotFound`, `Unavailable`, and without `replace` `Conflict` for a name that is taken.
        """
        with translated():
            faults = [*_name_faults(name), *timetable.faults(times), *_unknown_word("missed", missed, Missed)]
            faults += _unknown_word("overlap", overlap, Overlap)
            if faults:
                raise InputError(f"schedule {name!r}", faults)
            plan, run = self._submitter.prepare(workflow, value, terms)
            policies = {"missed": Missed(missed), "overlap": Overlap(overlap)}
            if not self._stored(name, plan, run, times, policies, replace=replace):
                message = f"there is a schedule {name!r} already"
                raise Conflict(
                    message, next_step=f"add --replace, or look at it: baton schedules show {name}"
                )
            return self.get(name)

    def get(self, name: str) -> Schedule:
        """Raises `NotFound` and `Unavailable`."""
        found = self._read(name)
        if not found:
            raise _unknown(name)
        return found[0]

    def all(self) -> list[Schedule]:
        """Every schedule, by name. Raises `Unavailable`."""
        return self._read(None)

    def pause(self, name: str) -> None:
        """Let it fire no more until it is resumed. Raises `NotFound` and `Unavailable`."""
        self._change(sql.DISABLE_SCHEDULE, name)

    def resume(self, name: str) -> None:
        """Let it fire again, from its next time on: those that passed are not made up for. Raises `NotFound`."""
        with translated(), self._engine.pool.connection() as conn, conn.transaction():
            row = conn.execute(sql.LOCK_SCHEDULE, {"name": name}).fetchone()
            if row is None:
                raise _unknown(name)
            cron, every, timezone, now = row
            times = Timetable(cron=cron, every=every, timezone=timezone)
            next_at = next(timetable.upcoming(times, now))
            conn.execute(sql.ENABLE_SCHEDULE, {"name": name, "next_at": next_at})

    def remove(self, name: str) -> None:
        """Forget it; its runs go on. Raises `NotFound` and `Unavailable`."""
        self._change(sql.DELETE_SCHEDULE, name)

    def fire(self, name: str) -> UUID:
        """Start a run of it now, whatever its times; the run. Raises `NotFound` and `Unavailable`."""
        one = self.get(name)
        with translated():
            with self._engine.pool.connection() as conn:
                plan = self._engine.plans.load(self._definition(conn, name), conn)
            run = Submission(
                new_id(),
                json.dumps(one.input),
                tenant=one.tenant,
                priority=one.priority,
                labels=labelled(name, one.labels),
            )
            _, ready = self._engine.submit(plan, [run])
            with self._engine.pool.connection() as conn:
                conn.execute(sql.NOTE_FIRED, {"name": name, "run": run.id})
            self._dispatcher.send(ready)
        return run.id

    def _stored(
        self,
        name: str,
        plan: Plan,
        run: Submission,
        times: Timetable,
        policies: Mapping[str, str],
        *,
        replace: bool,
    ) -> bool:
        keys = {
            **times.model_dump(),
            **policies,
            "name": name,
            "definition": plan.id,
            "workflow": plan.workflow.name,
            "input": run.input,
            "tenant": run.tenant,
            "priority": run.priority,
            "labels": json.dumps(dict(run.labels or {})),
            "replace": replace,
        }
        while True:
            self._engine.plans.save(plan)
            with self._engine.pool.connection() as conn:
                (now,) = conn.execute(SELECT_NOW).fetchone() or (None,)
                assert now is not None  # noqa: S101  a clock always answers
                keys["next_at"] = next(timetable.upcoming(times, now))
                try:
                    return conn.execute(sql.PUT_SCHEDULE, keys).fetchone() is not None
                except ForeignKeyViolation:
                    # The definition was pruned since this process had stored it.
                    self._engine.plans.forget(plan.id)

    def _read(self, name: str | None) -> list[Schedule]:
        with (
            translated(),
            self._engine.pool.connection() as conn,
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            rows = cursor.execute(sql.SELECT_SCHEDULES, {"name": name}).fetchall()
        return [Schedule.model_validate(row) for row in rows]

    def _definition(self, conn: Conn, name: str) -> str:
        row = conn.execute(sql.SELECT_DEFINITION_OF, {"name": name}).fetchone()
        if row is None:
            raise _unknown(name)
        return str(row[0])

    def _change(self, statement: Any, name: str) -> None:
        with translated(), self._engine.pool.connection() as conn:
            if conn.execute(statement, {"name": name}).fetchone() is None:
                raise _unknown(name)


def _name_faults(name: str) -> list[Fault]:
    if NAME.fullmatch(name):
        return []
    return [Fault("name", "it must be letters, digits, dots, dashes and underscores, at most 100")]


def _unknown_word(where: str, word: str, known: type[StrEnum]) -> list[Fault]:
    if word in list(known):
        return []
    return [Fault(where, f"{word!r} is not one of {', '.join(known)}")]


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name!r}", next_step="baton schedules ls")
