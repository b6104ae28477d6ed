"""Runs that steps start: begun with the step, once, and told to it when they end, each in one transaction.

A step that waits for its child is open, and holds no worker. Whatever ends a run ends what it waits for; whatever
resumes it resumes that.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from orchestrator.definitions.plan import Plan
from orchestrator.engine.gather import resolve_all
from orchestrator.engine.moves import Place
from orchestrator.engine.plans import Plans
from orchestrator.engine.reopen import Opening, set_back
from orchestrator.engine.run_locks import keep
from orchestrator.engine.values import RunRef
from orchestrator.identify import child_ids
from orchestrator.store import child_queries as sql
from orchestrator.store import control_queries
from orchestrator.store.connect import AnyConn
from schemas.runs import RunState
from schemas.workflows import Child


class Birth(NamedTuple):
    """A step that is open to start a run, or to go on with the one that it started before."""

    place: Place
    ref: str
    delay: float | None
    attempt: int = 0

    @property
    def plan(self) -> Plan:
        plan = self.place.run.plan.at(self.place.path).child
        assert plan is not None  # noqa: S101  such steps have one
        return plan

    @property
    def awaited(self) -> bool:
        node = self.place.run.plan.at(self.place.path).node
        return isinstance(node, Child) and node.wait

    def child(self, run_id: UUID) -> RunRef:
        """The run that it starts."""
        run = self.place.run
        return RunRef(run_id, self.plan, run.priority, run.paused and self.awaited)


class Growing(Opening, Protocol):
    """What this room needs of an `Advance`."""

    plans: Plans

    def start(self, run: RunRef, delay: float | None = None) -> None: ...

    def close_with(self, place: Place, value: str) -> None: ...

    def finished(self, run: RunRef, path: str, output_ref: str | None, error: str | None = None) -> None: ...


def start(advance: Growing, births: Sequence[Birth]) -> None:
    """Start these runs; those that were started before are resumed, waited for, or have ended already."""
    made = _insert(advance, births)
    for birth, run_id in made:
        advance.start(birth.child(run_id), birth.delay)
        if not birth.awaited:
            advance.close_with(birth.place, json.dumps({"run": str(run_id)}))
    if len(made) < len(births):
        begun = {_step(birth) for birth, _ in made}
        _take_up(advance, {_step(birth): birth for birth in births if _step(birth) not in begun})


def tell_steps(advance: Growing, ended: Iterable[tuple[RunRef, str | None]]) -> None:
    """Let the steps that wait for these runs end as they did; with each run the reference to its output, if any."""
    outputs = {
        run.id: resolve_all(advance.conn, run.id, run.plan, ref) if ref and ref.startswith("all:") else None
        for run, ref in ended
    }
    keys = {"runs": list(outputs), "outputs": list(outputs.values())}
    for run_id, path, error, definition, priority, paused in advance.conn.execute(
        sql.CLOSE_STEPS_OF, keys
    ).fetchall():
        parent = RunRef(run_id, advance.plans.load(definition, advance.conn), priority, paused)
        advance.finished(parent, path, f"out:{path}" if error is None else None, error)


class Below(NamedTuple):
    """A run that another one waits for, directly or not."""

    id: UUID
    definition: str
    priority: int
    root: UUID
    path: str
    """The step of `root` below which it was looked for."""
    paused_together: bool
    """Whether it was paused with `root`, and because of that."""


def below(conn: AnyConn, places: Collection[tuple[UUID, str]]) -> list[Below]:
    """The runs that go on below these steps, or below these runs where the path is empty."""
    keys = {"runs": [run for run, _ in places], "paths": [path for _, path in places]}
    return [Below(*row) for row in conn.execute(sql.SELECT_BELOW, keys).fetchall()]


def _step(birth: Birth) -> tuple[UUID, str]:
    return birth.place.run.id, birth.place.path


def _insert(advance: Growing, births: Sequence[Birth]) -> list[tuple[Birth, UUID]]:
    """Insert the runs; those that were not there before."""
    conn, plans = advance.conn, {birth.plan.id: birth.plan for birth in births}
    for definition in sorted(plans):
        keep(conn, definition)
    ids = _ids(births)
    rows = conn.execute(sql.INSERT_CHILDREN, _columns(conn, ids)).fetchall()
    if not all(is_defined for _, is_defined in rows):
        for definition in sorted(plans):
            advance.plans.put(plans[definition], conn)
    return [(ids[run_id], run_id) for run_id, _ in rows]


def _ids(births: Sequence[Birth]) -> dict[UUID, Birth]:
    by_run: dict[UUID, list[Birth]] = {}
    for birth in births:
        by_run.setdefault(birth.place.run.id, []).append(birth)
    return {
        child: birth
        for run, some in by_run.items()
        for child, birth in zip(child_ids(run, len(some)), some, strict=True)
    }


def _take_up(advance: Growing, births: Mapping[tuple[UUID, str], Birth]) -> None:
    """Go on with runs that these steps had started before. One that was cancelled stays so: another takes its place."""
    keys = {"parents": [run for run, _ in births], "steps": [path for _, path in births]}
    again, ended = [], []
    for run_id, path, attempt, child_id, state, ref in advance.conn.execute(
        sql.SELECT_CHILDREN, keys
    ).fetchall():
        birth = births[run_id, path]
        match state:
            case RunState.CANCELLED:
                again.append(birth._replace(attempt=attempt + 1))
            case RunState.COMPLETED:
                ended.append((birth.child(child_id), ref))
            case RunState.FAILED:
                _resume(advance, birth.child(child_id))
    if ended:
        tell_steps(advance, ended)
    if again:
        start(advance, again)


def _resume(advance: Growing, child: RunRef) -> None:
    timeout = child.plan.workflow.timeout
    advance.conn.execute(control_queries.RESUME_RUN, {"run": child.id, "timeout": timeout})
    set_back(advance, child)
    if child.paused:
        advance.conn.execute(sql.PAUSE_WITH_PARENT, {"run": child.id, "runs": [child.id]})


def _input(conn: AnyConn, birth: Birth) -> str | None:
    """The input of the run as JSON text, where that is the results of a fan-out; others are copied by the statement."""
    run, path = birth.place.run, birth.place.path
    if not birth.ref.startswith("all:"):
        return None
    return resolve_all(
        conn, run.id, run.plan, birth.ref, run.plan.shape(path, birth.ref.removeprefix("all:"))
    )


def _columns(conn: AnyConn, ids: Mapping[UUID, Birth]) -> dict[str, list[Any]]:
    births = list(ids.values())
    return {
        "ids": list(ids),
        "parents": [one.place.run.id for one in births],
        "steps": [one.place.path for one in births],
        "tries": [one.attempt for one in births],
        "awaited": [one.awaited for one in births],
        "definitions": [one.plan.id for one in births],
        "workflows": [one.plan.workflow.name for one in births],
        "refs": [one.ref for one in births],
        "inputs": [_input(conn, one) for one in births],
        "timeouts": [one.plan.workflow.timeout for one in births],
        "delays": [one.delay or 0.0 for one in births],
        "budgets": [one.plan.budget for one in births],
    }
