"""The verbs. Each is one transaction; what it made ready is returned, to be sent after the commit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine import onward
from orchestrator.engine.accounts import is_budget, used_up
from orchestrator.engine.advance import Advance
from orchestrator.engine.call_limits import CallLimits
from orchestrator.engine.combine import Combiner
from orchestrator.engine.control import Control
from orchestrator.engine.custody import Custody
from orchestrator.engine.dead_steps import DeadSteps
from orchestrator.engine.deadlines import Deadlines
from orchestrator.engine.deltas import Deltas
from orchestrator.engine.fork import Forking
from orchestrator.engine.intake import Intake
from orchestrator.engine.journals import Journals
from orchestrator.engine.limits import Limits
from orchestrator.engine.moves import Place
from orchestrator.engine.onward import NextStage
from orchestrator.engine.patience import UNSTORABLE, patiently
from orchestrator.engine.reserving import Reserving
from orchestrator.engine.run_locks import sharing
from orchestrator.engine.settling import Rest, end_holds
from orchestrator.engine.spending import warn
from orchestrator.engine.values import (
    NOTHING,
    Claimed,
    Finished,
    Note,
    Pointer,
    Ready,
    Recorded,
    RunRef,
    WorkerId,
    reason_of,
)
from orchestrator.engine.waking import Waking
from orchestrator.masking.masker import discreet_json
from orchestrator.store import attempt_queries as sql
from orchestrator.store.connect import Conn, Pool
from schemas.outcomes import Done, ErrorInfo, Failed, Limited, Waiting
from schemas.usage import Usage

_Attempt = tuple[UUID, str, int]


class _Accepted(NamedTuple):
    """What the fence let pass: its run, and the stage that its worker goes on with."""

    run: RunRef
    stage: NextStage | None
    run_left: float | None
    """Seconds until the run's deadline."""
    accounts: list[UUID] | None
    """The runs whose budgets count what it has consumed."""
    metered: bool
    """Whether others than runs have budgets."""


class Engine(
    Intake,
    Forking,
    Control,
    Deadlines,
    Waking,
    DeadSteps,
    Journals,
    Deltas,
    Custody,
    CallLimits,
    Limits,
    Reserving,
):
    """Moves runs on: record here; claim in `Claims` and `Limits`, what creates runs in `Intake` and `Forking`, whole
    runs in `Control`, their time in `Deadlines`, what they wait for in `Waits` and `Waking`, what workers hold in
    `Custody`, what they set aside in `DeadSteps`, what their steps have done inside in `Journals`, say in `Deltas`,
    may do in `CallLimits`, and may pay for it in `Reserving`.

    Any number of engines, in any number of processes, work on the same database.

    A worker's engine has a `worker` identity; a producer's has none and cannot claim.
    """

    def __init__(self, pool: Pool, worker: WorkerId | None = None) -> None:
        super().__init__(pool, worker)
        self.record_all = patiently(self._record_batch)
        """`record_all([Finished, ...]) -> [Recorded, ...]` in one transaction."""
        self.record = Combiner(self.record_all)
        """`record(Finished) -> Recorded`; safe from many threads, which share transactions."""

    # --- record -------------------------------------------------------------------------------------------

    def _record_batch(self, batch: Sequence[Finished]) -> list[Recorded]:
        try:
            return self._record_together(batch)
        except UNSTORABLE as error:
            # One value that cannot be stored, or read again, must not fail its neighbours.
            if len(batch) > 1:
                return [recorded for one in batch for recorded in self._record_batch([one])]
            return self._record_together([_unstorable(batch[0], error)])

    def _record_together(self, batch: Sequence[Finished]) -> list[Recorded]:
        with self.pool.connection() as conn:
            with sharing(conn, {f.run_id for f in batch}):
                accepted = self._accept(conn, batch)
                accounts = {account for one in accepted.values() for account in one.accounts or ()}
                standing = self._count_rests(conn, batch, accepted)
                mine = [one for one in batch if _attempt(one) in accepted]
                freed = end_holds(conn, [_attempt(one) for one in mine if one.holds])
                following = _following(conn, batch, accepted)
                advance = Advance(conn, self.plans)
                advance.counted |= standing
                results = [_told(advance, one, accepted.pop(_attempt(one), None), following) for one in batch]
                before = len(advance.ready)
                advance.settle()
                late = advance.ready[before:]
            # Now that it is committed: of branches that end together, the last one sees all.
            if accounts or standing:
                warn(conn, {f"run:{one}" for one in accounts} | standing, [one.run_id for one in batch])
            late += self.settle(conn, advance.unsettled)
            late += self._wake_waiters(freed + self._passed_on(conn, _turned_away(mine)), conn)
        return _with_late(results, late, advance.ended)

    def _count_rests(
        self, conn: Conn, batch: Sequence[Finished], accepted: Mapping[_Attempt, _Accepted]
    ) -> set[str]:
        """Count what was told besides calls, and work where it is budgeted; the accounts of others than runs."""
        rests = [
            Rest(one.run_id, one.path, one.attempt, _rest(one))
            for one in batch
            if (found := accepted.get(_attempt(one))) and (found.metered or _rest(one) != NOTHING)
        ]
        return set(self.count_rest(conn, rests)) if rests else set()

    def _accept(self, conn: Conn, batch: Sequence[Finished]) -> dict[_Attempt, _Accepted]:
        """The outcomes that the fence let pass."""
        wanted = {_attempt(one): onward.wanted(one) for one in batch}
        me = {"worker": self.me.id, "worker_name": self.me.name}
        cursor = conn.execute(
            sql.ACCEPT, _columns(batch) | _next_columns([wanted[_attempt(one)] for one in batch]) | me
        )
        accepted = {
            (run_id, path, attempt): _Accepted(
                RunRef(run_id, self.plans.load(definition, conn), priority, paused),
                wanted[run_id, path, attempt] if goes_to else None,
                *rest,
            )
            for run_id, path, attempt, definition, priority, paused, goes_to, *rest in cursor.fetchall()
        }
        notes = [(f.run_id, f.path, note) for f in batch if _attempt(f) in accepted for note in f.notes]
        if notes:
            _write_notes(conn, notes)
        return accepted


def _attempt(finished: Finished) -> _Attempt:
    return finished.run_id, finished.path, finished.attempt


def _rest(finished: Finished) -> Usage:
    """What it has consumed and nobody has counted yet."""
    usage = finished.outcome.usage
    return usage if finished.counted == NOTHING else usage.beyond(finished.counted)


def _turned_away(batch: Sequence[Finished]) -> dict[Pointer, bool]:
    """Those that a budget did not let go on, and whether for good."""
    found = {}
    for one in batch:
        match one.outcome:
            case Limited(limit=limit) if is_budget(limit):
                found[Pointer(one.run_id, one.path)] = False
            case Failed(error=ErrorInfo(type="BudgetExceeded")):
                found[Pointer(one.run_id, one.path)] = True
    return found


def _following(
    conn: Conn, batch: Sequence[Finished], accepted: Mapping[_Attempt, _Accepted]
) -> dict[_Attempt, Claimed]:
    """The stages with which workers go on, by the attempt before them."""
    claims, metered = {}, False
    for one in batch:
        found = accepted.get(_attempt(one))
        if found is not None and found.stage is not None:
            claims[_attempt(one)] = onward.claim_of(one, found.stage, found.run_left)
            metered = metered or found.metered or found.accounts is not None
    over = used_up(conn, list(claims.values())) if metered else {}
    return {
        attempt: replace(claim, metered=metered, used_up=over.get(Pointer(claim.run.id, claim.path), ""))
        for attempt, claim in claims.items()
    }


def _told(
    advance: Advance, finished: Finished, accepted: _Accepted | None, following: dict[_Attempt, Claimed]
) -> Recorded:
    """Tell what ended, unless its worker goes on with what follows."""
    if accepted is None:
        return Recorded(accepted=False)
    if accepted.stage is not None:
        return Recorded(accepted=True, next=following[_attempt(finished)])
    before = len(advance.ready)
    _tell(advance, accepted.run, finished)
    return Recorded(accepted=True, ready=tuple(advance.ready[before:]))


def _next_columns(stages: Sequence[NextStage | None]) -> dict[str, list[Any]]:
    return {
        "next_paths": [stage and stage.path for stage in stages],
        "next_agents": [stage and stage.agent for stage in stages],
    }


def _columns(batch: Sequence[Finished]) -> dict[str, list[Any]]:
    return {
        "runs": [f.run_id for f in batch],
        "paths": [f.path for f in batch],
        "attempts": [f.attempt for f in batch],
        "states": [f.outcome.state for f in batch],
        "outputs": [f.output for f in batch],
        "errors": [_error_of(f.outcome) for f in batch],
        "usages": [f.outcome.usage.model_dump_json() for f in batch],
        "rests": [None if (rest := _rest(f)) == NOTHING else rest.model_dump_json() for f in batch],
        "retry_ins": [_again_in(f.outcome) for f in batch],
        "limits": [f.outcome.limit if isinstance(f.outcome, Limited) else None for f in batch],
    }


def _error_of(outcome: Done | Failed | Waiting | Limited) -> str | None:
    """What went wrong, as JSON text."""
    match outcome:
        case Failed(error=ErrorInfo() as error) | Done(instead=ErrorInfo() as error):
            return discreet_json(error.model_dump_json())
    return None


def _again_in(outcome: Done | Failed | Waiting | Limited) -> float | None:
    """Seconds until another attempt, if there is to be one."""
    match outcome:
        case Failed(retry_in=seconds) | Limited(due_in=seconds):
            return seconds
    return None


def _write_notes(conn: Conn, noted: Sequence[tuple[UUID, str, Note]]) -> None:
    conn.execute(
        sql.NOTE_EVENTS,
        {
            "runs": [run for run, _, _ in noted],
            "kinds": [note.kind for _, _, note in noted],
            "paths": [path for _, path, _ in noted],
            "data": [discreet_json(json.dumps(note.data, default=str)) for _, _, note in noted],
        },
    )


def _tell(advance: Advance, run: RunRef, finished: Finished) -> None:
    match finished.outcome:
        case Done():
            advance.finished(run, finished.path, f"out:{finished.path}")
        case Failed(retry_in=None, error=error):
            advance.finished(run, finished.path, None, error.model_dump_json())
        case Waiting(asking=asking, usage=usage):
            told = asking.told | {"attempt": finished.attempt, "usage": usage.model_dump()}
            advance.wait(Place(run, finished.path), asking.model_copy(update={"told": told}))


def _with_late(results: list[Recorded], late: list[Ready], ended: list[UUID]) -> list[Recorded]:
    """Give what the batch caused as a whole (joins, promoted branches, ends of runs) to one of those that caused it."""
    if late or ended:
        index = next(i for i, one in enumerate(results) if one.accepted)
        results[index] = replace(results[index], ready=(*results[index].ready, *late), ended=tuple(ended))
    return results


def _unstorable(finished: Finished, cause: Exception) -> Finished:
    message = f"its output cannot be stored: {reason_of(cause)}"
    if "\\u0000" in (finished.output or ""):
        message += " (it holds a NUL character, \\u0000, which Postgres cannot store)"
    error = ErrorInfo(type="InvalidOutput", message=message, retryable=False)
    return Finished(finished.run_id, finished.path, finished.attempt, Failed(error=error))
