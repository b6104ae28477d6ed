"""Runs, pools and workers as people and programs see them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from orchestrator.bulk import Selection
from orchestrator.engine.gather import read_results, resolve_all
from orchestrator.engine.plans import Plans
from orchestrator.store import dead_letter_queries
from orchestrator.store import view_queries as sql
from orchestrator.store.connect import Conn, Pool
from schemas.agents import queue_of
from schemas.errors import Fault, InputError, NotFound
from schemas.outcomes import ErrorInfo, Gap
from schemas.runs import RUN_ENDED, PoolView, RunState, RunSummary, RunView, StepState, StepView, WorkerView
from schemas.usage import Usage


@dataclass(frozen=True)
class RunEnd:
    """How a run ended."""

    state: RunState
    error: ErrorInfo | None
    output: Any


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
        limit: int,
    ) -> list[RunSummary]:
        keys = {"state": state, "workflow": workflow, "tenant": tenant, "limit": limit}
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
        return RunEnd(RunState(state), ErrorInfo.model_validate(error) if error else None, output)

    def run(self, run_id: UUID) -> RunView:
        """Raises `NotFound`."""
        with self._pool.connection() as conn:
            row = self._row(conn, run_id)
            definition, ref = row.pop("definition_id"), row.pop("output_ref")
            with conn.cursor(row_factory=dict_row) as cursor:
                found = cursor.execute(sql.SELECT_STEPS, {"run": run_id}).fetchall()
            served = {queue for (queue,) in conn.execute(sql.SELECT_SERVED).fetchall()}
            plan = self._plans.load(definition, conn)
            steps = []
            for step in sorted(found, key=_order(found)):
                gaps: tuple[Gap, ...] = ()
                if step["kind"] in ("fan_out", "each") and step["state"] in ("done", "failed"):
                    results = read_results(conn, run_id, plan, step["path"])
                    gaps = tuple(Gap.model_validate(gap) for gap in results.gaps)
                steps.append(_step(step, gaps))
            output = self._output(conn, run_id, definition, ref)
            dead = conn.execute(dead_letter_queries.SELECT_DEAD_STEPS, {"run": run_id}).fetchall()
        notes = _notes(row, steps, dead, served)
        return RunView(**row, output=output, steps=tuple(steps), notes=notes)

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

    def _output(self, conn: Conn, run_id: UUID, definition: str, ref: str | None) -> Any:
        if ref is None:
            return None
        if ref.startswith("all:"):
            return json.loads(resolve_all(conn, run_id, self._plans.load(definition, conn), ref))
        row = conn.execute(sql.SELECT_OUTPUT, {"run": run_id, "ref": ref}).fetchone()
        return None if row is None or row[0] is None else json.loads(row[0])


def _step(row: dict[str, Any], gaps: tuple[Gap, ...]) -> StepView:
    fields = {key: value for key, value in row.items() if key != "ordinal"}
    return StepView.model_validate(fields | {"gaps": gaps, "usage": row["usage"] or Usage()})


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
    run: Mapping[str, Any], steps: list[StepView], dead: Sequence[tuple[int, str]], served: set[str]
) -> tuple[str, ...]:
    """Why a run that could move does not, and what would help."""
    if run["state"] in RUN_ENDED:
        return ()
    aside = tuple(
        f"step {path} was set aside; look at it: baton dead show {letter}; "
        f"try it again: baton dead retry {letter}; go on without it: baton dead drop {letter}"
        for letter, path in dead
    )
    if run["state"] == RunState.PAUSED:
        resume = () if dead else (f"let it go on: baton runs resume {run['id']}",)
        return (f"paused: {run['pause_reason']}", *aside, *resume)
    waiting = Counter(s.agent for s in steps if s.state is StepState.READY and s.agent is not None)
    return aside + tuple(
        f"no worker serves {queue_of(agent)}: {count} step{'s wait' if count > 1 else ' waits'}; "
        f"start one with: baton worker {agent}"
        for agent, count in sorted(waiting.items())
        if queue_of(agent) not in served
    )


def _label(label: str | None) -> str | None:
    if label is None:
        return None
    match = re.fullmatch(r"([^=]+)=(.*)", label)
    if match is None:
        raise InputError("label", [Fault("", f"{label!r} is not KEY=VALUE")])
    return json.dumps({match[1]: match[2]})
