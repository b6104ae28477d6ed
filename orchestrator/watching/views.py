"""Runs, pools and workers as people and programs see them."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from orchestrator.definitions.plan import parent_of
from orchestrator.engine.gather import gap_of, resolve_all
from orchestrator.engine.plans import Plans
from orchestrator.intake.bulk import Selection
from orchestrator.store import dead_letter_queries, wait_queries
from orchestrator.store import view_queries as sql
from orchestrator.store.connect import Conn, Pool
from orchestrator.watching.held import lets_go_on
from orchestrator.watching.partial import partial_outputs
from orchestrator.watching.replay import Replay, Step
from orchestrator.watching.totals import (
    RUN,
    Spent,
    spent_in_children,
    spent_in_events,
    spent_in_rows,
    totals_of,
)
from schemas.agents import queue_of
from schemas.errors import Fault, InputError, NotFound
from schemas.events import Event
from schemas.outcomes import ErrorInfo, Gap
from schemas.runs import (
    RUN_ENDED,
    PartialOutput,
    PoolView,
    RunFigures,
    RunMoment,
    RunState,
    RunSummary,
    RunView,
    StepState,
    StepView,
    Totals,
    WorkerView,
)
from schemas.usage import Usage
from schemas.waits import WaitKind
from schemas.workflows import Leaf

ASKED = 5
"""Decisions that a run shows one by one."""

CHILDREN = 1_000
"""Child runs that a run shows."""


@dataclass(frozen=True)
class RunEnd:
    """How a run ended."""

    state: RunState
    error: ErrorInfo | None
    output: Any
    partial: tuple[PartialOutput, ...] = ()
    """Of one without a result: what its last finished stages produced."""


class Views:
    """Read models, each one or a few queries."""

    def __init__(self, pool: Pool, plans: Plans) -> None:
        self._pool = pool
        self._plans = plans

    def runs(
        self,
        *,
        state: RunState | None,
        workflow: str | None,
        label: str | None,
        tenant: str | None,
        children: bool,
        limit: int,
    ) -> list[RunSummary]:
        keys = {
            "state": state,
            "workflow": workflow,
            "tenant": tenant,
            "children": children,
            "limit": limit,
        }
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_RUNS, keys | {"labels": _label(label)}).fetchall()
        return [RunSummary.model_validate(row) for row in rows]

    def select(self, selection: Selection, states: Iterable[RunState]) -> list[UUID]:
        """The runs in one of these states that are meant, the oldest first. Raises `InputError`."""
        selection.check()
        keys = {
            "states": [str(state) for state in states],
            "workflow": selection.workflow,
            "tenant": selection.tenant,
            "labels": json.dumps(dict(selection.labels)) if selection.labels else None,
        }
        with self._pool.connection() as conn:
            return [run_id for (run_id,) in conn.execute(sql.SELECT_RUN_IDS, keys).fetchall()]

    def summary(self, run_id: UUID) -> RunSummary:
        """Raises `NotFound`."""
        with self._pool.connection() as conn:
            row = self._row(conn, run_id)
        return RunSummary.model_validate({k: row[k] for k in RunSummary.model_fields})

    def figures(self, runs: Iterable[UUID]) -> list[RunFigures]:
        """How these runs stand, as far as they exist."""
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_FIGURES, {"runs": list(runs)}).fetchall()
        return [RunFigures.model_validate(row) for row in rows]

    def has_ended(self, run_id: UUID) -> bool:
        """Whether nothing more happens to the run by itself."""
        with self._pool.connection() as conn:
            row = conn.execute(sql.SELECT_RUN_END, {"run": run_id}).fetchone()
        return row is not None and row[0] in RUN_ENDED

    def end(self, run_id: UUID) -> RunEnd | None:
        """How the run ended, or None while it goes on. Raises `NotFound`."""
        with self._pool.connection() as conn:
            row = conn.execute(sql.SELECT_RUN_END, {"run": run_id}).fetchone()
            if row is None:
                raise NotFound(f"there is no run {run_id}", next_step="baton runs ls")
            state, error, ref, definition = row
            if state not in RUN_ENDED:
                return None
            output = self._output(conn, run_id, definition, ref)
            partial = self._partial(conn, run_id, state)
        return RunEnd(RunState(state), ErrorInfo.model_validate(error) if error else None, output, partial)

    def run(self, run_id: UUID) -> RunView:
        """Raises `NotFound`."""
        with self._pool.connection() as conn:
            row = self._row(conn, run_id)
            definition, ref = row.pop("definition_id"), row.pop("output_ref")
            with conn.cursor(row_factory=dict_row) as cursor:
                found = cursor.execute(sql.SELECT_STEPS, {"run": run_id}).fetchall()
                keys = {"run": run_id, "limit": CHILDREN}
                children = cursor.execute(sql.SELECT_CHILDREN, keys).fetchall()
            spent = spent_in_rows(conn.execute(sql.SELECT_SPENT, {"run": run_id}).fetchall())
            served = {queue for (queue,) in conn.execute(sql.SELECT_SERVED).fetchall()}
            forks = tuple(fork for (fork,) in conn.execute(sql.SELECT_FORKS, {"run": run_id}).fetchall())
            output = self._output(conn, run_id, definition, ref)
            partial = self._partial(conn, run_id, row["state"])
            dead = conn.execute(dead_letter_queries.SELECT_DEAD_STEPS, {"run": run_id}).fetchall()
            asked = conn.execute(wait_queries.SELECT_ASKED, {"run": run_id}).fetchall()
        totals = _totals(row, found, spent)
        steps = _steps(found, totals)
        started = tuple(RunSummary.model_validate(child) for child in children)
        notes = _notes(row, steps, dead, served) + _asked(row, asked) + _held_up(row, started)
        return RunView(
            **row,
            output=output,
            partial=partial,
            steps=steps,
            notes=notes,
            forks=forks,
            children=started,
            totals=totals.get(RUN, Totals()),
        )

    def moment(self, run_id: UUID, events: Sequence[Event], total: int) -> RunMoment:
        """The run as it was after these events, the first ones of `total`. Raises `NotFound`."""
        with self._pool.connection() as conn:
            row = self._row(conn, run_id)
            definition, ref = row.pop("definition_id"), row.pop("output_ref")
            replay = Replay(self._plans.load(definition, conn), events)
            done = [step.path for step in replay.steps.values() if step.state is StepState.DONE]
            found = conn.execute(sql.SELECT_OUTPUTS, {"run": run_id, "paths": done}).fetchall()
            completed = replay.state is RunState.COMPLETED
            output = self._output(conn, run_id, definition, ref) if completed else None
        told = {
            "state": replay.state,
            "degraded": replay.degraded,
            "started_at": replay.started_at,
            "finished_at": replay.finished_at,
            "paused_at": replay.paused_at,
            "pause_reason": replay.pause_reason,
            "error": replay.error,
        }
        rows = [_row(step) for step in replay.steps.values()]
        totals = _totals(told, rows, spent_in_events(events))
        return RunMoment(
            **row | told,
            output=output,
            steps=_steps(rows, totals),
            totals=totals.get(RUN, Totals()),
            notes=(),
            event=events[-1],
            events=total,
            outputs={path: json.loads(text) for path, text in found},
        )

    def pools(self) -> list[PoolView]:
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_POOLS).fetchall()
        return [PoolView(agent=row["queue"].removeprefix("agent."), **row) for row in rows]

    def workers(self, *, ended: bool = False, limit: int = 1_000) -> list[WorkerView]:
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_WORKERS, {"limit": limit, "all": ended}).fetchall()
        return [WorkerView.model_validate(row) for row in rows]

    def _row(self, conn: Conn, run_id: UUID) -> dict[str, Any]:
        with conn.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(sql.SELECT_RUN, {"run": run_id}).fetchone()
        if row is None:
            raise NotFound(f"there is no run {run_id}", next_step="baton runs ls")
        return row

    def value(self, run_id: UUID, definition: str, ref: str) -> Any:
        """The value behind a reference."""
        with self._pool.connection() as conn:
            return self._output(conn, run_id, definition, ref)

    def _partial(self, conn: Conn, run_id: UUID, state: str) -> tuple[PartialOutput, ...]:
        if state not in (RunState.FAILED, RunState.CANCELLED):
            return ()
        return partial_outputs(conn, self._plans, run_id)

    def _output(self, conn: Conn, run_id: UUID, definition: str, ref: str | None) -> Any:
        if ref is None:
            return None
        if ref.startswith("all:"):
            return json.loads(resolve_all(conn, run_id, self._plans.load(definition, conn), ref))
        row = conn.execute(sql.SELECT_OUTPUT, {"run": run_id, "ref": ref}).fetchone()
        return None if row is None or row[0] is None else json.loads(row[0])


def _totals(
    run: Mapping[str, Any], rows: list[dict[str, Any]], spent: Mapping[str, Spent]
) -> dict[str, Totals]:
    """What the run and its steps came to, by path."""
    spent = {**spent, **spent_in_children(rows)}
    return totals_of(spent, {row["path"]: row["finished_at"] for row in rows} | {RUN: run["finished_at"]})


def _steps(rows: list[dict[str, Any]], totals: Mapping[str, Totals]) -> tuple[StepView, ...]:
    """Views of all steps of a run in the order of its definition, from their rows."""
    missing: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["ordinal"] >= 0 and row["state"] != StepState.DONE:
            missing[row["parent"]].append(row)
    return tuple(
        _step(row, missing[row["path"]], totals.get(row["path"], Totals()))
        for row in sorted(rows, key=_order(rows))
    )


def _step(row: dict[str, Any], missing: list[dict[str, Any]], totals: Totals) -> StepView:
    gaps: list[Gap] = []
    if row["kind"] in ("fan_out", "each") and row["state"] in ("done", "failed"):
        for one in sorted(missing, key=lambda one: int(one["ordinal"])):
            name = one["path"].rpartition("/")[2]
            gaps.append(Gap.model_validate(gap_of(name, one["state"], one["error"] or {})))
    fields = {key: value for key, value in row.items() if key != "ordinal"}
    return StepView.model_validate(
        fields | {"gaps": tuple(gaps), "usage": row["usage"] or Usage(), "totals": totals}
    )


def _row(step: Step) -> dict[str, Any]:
    """A step of a replay as `SELECT_STEPS` would show it."""
    return {
        "path": step.path,
        "parent": parent_of(step.path),
        "kind": step.node.pattern,
        "agent": step.node.agent if isinstance(step.node, Leaf) else None,
        "state": step.state,
        "attempt": step.attempt,
        "losses": step.losses,
        "worker": step.worker,
        "ready_at": step.ready_at,
        "started_at": step.started_at,
        "finished_at": step.finished_at,
        "due_at": step.due_at,
        "error": step.error.model_dump() if step.error is not None else None,
        "usage": step.usage,
        "ordinal": step.ordinal,
    }


def _order(rows: list[dict[str, Any]]) -> Any:
    """Sort steps as they stand in the definition: by the ordinals along their path, a join last."""
    ordinals = {row["path"]: row["ordinal"] for row in rows}

    def key(row: dict[str, Any]) -> tuple[float, ...]:
        parts, path = row["path"].split("/"), ""
        found = []
        for part in parts:
            path = f"{path}/{part}" if path else part
            if part.isdecimal():
                found.append(float(part))
            else:
                ordinal = ordinals.get(path, 0)
                found.append(float("inf") if ordinal < 0 else float(ordinal))
        return tuple(found)

    return key


def _notes(
    run: Mapping[str, Any], steps: Sequence[StepView], dead: Sequence[tuple[int, str]], served: set[str]
) -> tuple[str, ...]:
    """Why a run that could move does not, and what would help."""
    if run["state"] in RUN_ENDED:
        return ()
    agents = {step.path: step.agent for step in steps}
    aside = tuple(
        f"step {path} ({agents.get(path)}) was set aside; look at it: baton dead show {letter}; "
        f"try it again: baton dead retry {letter}; go on without it: baton dead drop {letter}"
        for letter, path in dead
    )
    if run["state"] == RunState.PAUSED:
        resume = () if dead else (f"let it go on: {lets_go_on(run['id'], run['pause_reason'] or '')}",)
        return (f"paused: {run['pause_reason']}", *aside, *resume)
    waiting = Counter(s.agent for s in steps if s.state is StepState.READY and s.agent is not None)
    return aside + tuple(
        f"no worker serves {queue_of(agent)}: {count} step{'s wait' if count > 1 else ' waits'}; "
        f"start one with: baton worker {agent}"
        for agent, count in sorted(waiting.items())
        if queue_of(agent) not in served
    )


def _held_up(run: Mapping[str, Any], children: Sequence[RunSummary]) -> tuple[str, ...]:
    """Runs that it waits for and that are paused although it is not."""
    paused = [one for one in children if one.awaited and one.state is RunState.PAUSED]
    if run["state"] in (*RUN_ENDED, RunState.PAUSED):
        return ()
    told = [
        f"step {one.parent_step} waits for run {one.id}, which is paused: baton runs show {one.id}"
        for one in paused[:ASKED]
    ]
    if len(paused) > ASKED:
        told.append(f"{len(paused) - ASKED} more of the runs that it waits for are paused")
    return tuple(told)


def _asked(run: Mapping[str, Any], asked: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    """What people are to decide, and how."""
    told = []
    for wait, path, kind, key, audience in asked[:ASKED]:
        if kind == WaitKind.EVENT:
            told.append(f"step {path} waits for the event {key}: baton events emit {_emitted(key)}")
            continue
        whom = " or ".join(audience) or "somebody"
        if kind == WaitKind.APPROVAL:
            how = f"approve {key!r}: baton approvals show {wait}, then baton approvals approve|reject {wait}"
        else:
            how = f"answer {key!r}: baton approvals answer {wait} ANSWER"
        told.append(f"step {path} waits for {whom} to {how}")
    if len(asked) > ASKED:
        told.append(f"{len(asked) - ASKED} more steps wait: baton approvals ls --run {run['id']}")
    return tuple(told)


def _emitted(key: str) -> str:
    """What to type for the event that a wait of this key is for."""
    type_, _, about = key.partition(" ")
    return f"{type_} --key {shlex.quote(about)}" if about else type_


def _label(label: str | None) -> str | None:
    if label is None:
        return None
    match = re.fullmatch(r"([^=]+)=(.*)", label)
    if match is None:
        raise InputError("label", [Fault("", f"{label!r} is not KEY=VALUE")])
    return json.dumps({match[1]: match[2]})
