"""A new run that goes its own way from one step of another run, and keeps the checkpoints before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from orchestrator.definitions.plan import Plan, parent_of
from orchestrator.engine.advance import Advance
from orchestrator.engine.ground import Ground
from orchestrator.engine.inherit import inherit
from orchestrator.engine.reopen import unsettled
from orchestrator.engine.run_locks import keep
from orchestrator.engine.values import Ready, RunRef
from orchestrator.store import fork_queries as sql
from orchestrator.store.connect import Conn
from orchestrator.store.journal_queries import COPY_JOURNAL
from orchestrator.store.tool_queries import COPY_FENCES
from schemas.errors import Conflict, NotFound
from schemas.runs import StepState
from schemas.workflows import Debate, Joining, Leaf, Loop, Pipeline, Round, Route, Stage, Supervise


class _Origin(NamedTuple):
    definition: str
    plan: Plan
    priority: int


class Forking(Ground):
    """Makes runs out of runs."""

    def fork(self, origin: UUID, step: str, new: UUID, given: str | None = None) -> list[Ready]:
        """Make the run `new` of `origin`, whatever state that is in, to go on from `step`; what may be sent.

        What is done is kept, except `step`, what is below it and what follows from it. A step beside it that is half
        done goes on from what it has done: its journal is copied, and the fences of effects that it has begun. `given`
        (JSON text) takes the place of the step's input. Raises `NotFound` for a run or a step that does not exist, and
        `Conflict` for a step that the run has not reached.
        """
        with self.pool.connection() as conn, conn.transaction():
            run = self._new_run(conn, origin, step, new)
            found = conn.execute(sql.SELECT_ORIGIN_STEPS, {"origin": origin}).fetchall()
            if step not in {path for path, *_ in found}:
                raise Conflict(
                    f"run {origin} has not reached step {step}", next_step=f"baton runs events {origin}"
                )
            states = beginning(run.plan, {path: state for path, state, _ in found}, step)
            keys = {"origin": origin, "run": new, "step": step, "input": given}
            columns = {"paths": list(states), "states": list(states.values())}
            if conn.execute(sql.COPY_STEPS, keys | columns).fetchone() != (len(states),):
                raise _no_run(origin)  # it was pruned just now
            inherit(conn, origin, new, [path for path, state in states.items() if state is None])
            open_ones = [path for path, state in states.items() if state == StepState.PENDING]
            half_done = {"origin": origin, "run": new, "paths": open_ones}
            conn.execute(COPY_JOURNAL, half_done)
            conn.execute(COPY_FENCES, half_done)
            refs = {path: ref for path, _, ref in found}
            ref = refs[step] if given is None else None
            return _go_on(Advance(conn, self.plans), run, step, ref or f"in:{step}")

    def plan_of(self, run_id: UUID, step: str) -> Plan:
        """The plan of a run, which has such a step. Raises `NotFound`."""
        with self.pool.connection() as conn:
            return self._origin(conn, run_id, step).plan

    def _origin(self, conn: Conn, run_id: UUID, step: str) -> _Origin:
        row = conn.execute(sql.SELECT_ORIGIN, {"origin": run_id}).fetchone()
        if row is None:
            raise _no_run(run_id)
        definition, priority = row
        plan = self.plans.load(definition, conn)
        if plan.find(step) is None:
            message = f"workflow {plan.workflow.name!r} has no step {step!r}"
            raise NotFound(message, next_step=f"baton runs events {run_id}")
        return _Origin(definition, plan, priority)

    def _new_run(self, conn: Conn, origin: UUID, step: str, new: UUID) -> RunRef:
        definition, plan, priority = self._origin(conn, origin, step)
        keep(conn, definition)
        keys = {"origin": origin, "run": new, "step": step, "timeout": plan.workflow.timeout}
        if conn.execute(sql.INSERT_FORK, keys).fetchone() is None:
            raise _no_run(origin)
        return RunRef(new, plan, priority)


def beginning(plan: Plan, origin: Mapping[str, str], step: str) -> dict[str, str | None]:
    """How each step of a new run begins that goes its own way from `step`: its state, or None if it is kept as it is.

    `origin` has the states of the run that it comes from. Around `step` everything is open; what follows from it is
    left out; branches beside it that are not done wait to be started, with what is done inside them.
    """
    around = set(_around(step))
    before = [path for path in origin if not follows(plan, path, step)]
    undone = [path for path in before if path in around or origin[path] != StepState.DONE]
    again = set(unsettled(plan, [(path, parent_of(path)) for path in (*undone, step)]))
    states: dict[str, str | None] = {path: StepState.PENDING if path in again else None for path in before}
    states |= dict.fromkeys(around, StepState.OPEN)
    states[step] = StepState.READY if isinstance(plan.at(step).node, Leaf) else StepState.OPEN
    return states


def _around(step: str) -> list[str]:
    """The steps that enclose this one, the innermost first."""
    found = []
    while step := parent_of(step):
        found.append(step)
    return found


def follows(plan: Plan, path: str, step: str) -> bool:
    """Whether `path` is `step`, below it, or executed after it because of it."""
    if path == step or path.startswith(f"{step}/"):
        return True
    if step.startswith(f"{path}/"):
        return False
    ours, theirs, common = path.split("/"), step.split("/"), ""
    while ours[0] == theirs[0]:
        common = f"{common}/{ours[0]}".lstrip("/")
        ours, theirs = ours[1:], theirs[1:]
    match plan.at(common).node:
        case Pipeline() | Loop() | Supervise():
            return int(ours[0]) > int(theirs[0])
        case Round() | Debate():
            order = ("plan", "work", "review", "positions", "judge")
            return order.index(ours[0]) > order.index(theirs[0])
        case Stage():
            return ours[0] == "else"
        case Route():
            return theirs[0] == "by"
    return ours[0] == "join"


def _go_on(advance: Advance, run: RunRef, step: str, ref: str) -> list[Ready]:
    advance.enter(run, step, ref)
    inner = step
    for path in _around(step):
        if isinstance(run.plan.at(path).node, Joining) and inner != f"{path}/join":
            advance.wake(run, path, started=1)
        inner = path
    advance.settle()
    return advance.ready


def _no_run(run_id: UUID) -> NotFound:
    return NotFound(f"there is no run {run_id}", next_step="baton runs ls")
