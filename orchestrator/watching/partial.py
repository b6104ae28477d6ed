"""What a run without a result has come to: the outputs of the last steps that are done, from its checkpoints."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine.gather import resolve_all
from orchestrator.engine.json_texts import Unreadable, read
from orchestrator.engine.plans import Plans
from orchestrator.store import view_queries as sql
from orchestrator.store.connect import Conn
from schemas.runs import PartialOutput, StepKind, StepState

MOST = 100
"""Outputs that are told, the first ones."""

_JOINING = (StepKind.FAN_OUT, StepKind.EACH)


class _Step(NamedTuple):
    path: str
    parent: str
    kind: str
    agent: str | None
    state: str
    ordinal: int
    output_ref: str | None
    child: UUID | None

    @property
    def segment(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def order(self) -> tuple[int, int]:
        """Of the parts of one step, in the order of their work; a join has the ordinal -1."""
        return self.ordinal, int(self.segment) if self.segment.isdecimal() else 0


class _Found(NamedTuple):
    run_id: UUID
    step: _Step
    output_ref: str


def partial_outputs(conn: Conn, plans: Plans, run_id: UUID) -> tuple[PartialOutput, ...]:
    """The outputs of the last finished stages, those of branches beside each other in their order.

    What has been made of an output stands for it, and one that this program cannot read is left out. Of a child run
    that has ended without a result it is what that one has come to.
    """
    told = []
    for one in _Checkpoints(conn, run_id).last_below("")[:MOST]:
        with suppress(Unreadable):  # of which its run may have failed
            output = _value(conn, plans, one)
            told.append(
                PartialOutput(run_id=one.run_id, path=one.step.path, agent=one.step.agent, output=output)
            )
    return tuple(told)


def _value(conn: Conn, plans: Plans, found: _Found) -> Any:
    keys = {"run": found.run_id}
    if found.output_ref.startswith("all:"):
        (definition,) = conn.execute(sql.SELECT_DEFINITION, keys).fetchone() or (None,)
        plan = plans.load(str(definition), conn)
        return read(resolve_all(conn, found.run_id, plan, found.output_ref))
    (text,) = conn.execute(sql.SELECT_OUTPUT, keys | {"ref": found.output_ref}).fetchone() or (None,)
    return None if text is None else read(text)


class _Checkpoints:
    """The steps of a run, looked through for outputs of which nothing was made."""

    def __init__(self, conn: Conn, run_id: UUID) -> None:
        self._conn = conn
        self._run_id = run_id
        steps = [_Step(*row) for row in conn.execute(sql.SELECT_CHECKPOINTS, {"run": run_id}).fetchall()]
        self._by_path = {step.path: step for step in steps}
        self._below: defaultdict[str, list[_Step]] = defaultdict(list)
        for step in sorted(steps, key=lambda step: step.order):
            self._below[step.parent].append(step)

    def last_below(self, path: str) -> list[_Found]:
        """The last outputs below a step that has none itself; the path of the run is empty."""
        around, parts = self._by_path.get(path), self._below[path]
        if around is not None and around.kind in _JOINING:
            branches = [found for part in parts if part.ordinal >= 0 for found in self._last_of(part)]
            return [found for part in parts if part.ordinal < 0 for found in self._last_of(part)] or branches
        if around is not None and around.kind == StepKind.ROUTE:
            parts = [part for part in parts if part.segment != "by"]  # what decides is no result
        return next((found for part in reversed(parts) if (found := self._last_of(part))), [])

    def _last_of(self, step: _Step) -> list[_Found]:
        if step.state == StepState.DONE:
            return self._made_by(step)
        if step.child is not None:
            return _Checkpoints(self._conn, step.child).last_below("")
        return self.last_below(step.path)

    def _made_by(self, step: _Step) -> list[_Found]:
        """By whom the output of a step was made; by none of these if it only handed on what it was given."""
        ref = step.output_ref or f"out:{step.path}"
        kind, _, path = ref.partition(":")
        if kind not in ("out", "all"):
            return []
        if path == step.path or kind == "all":
            return [_Found(self._run_id, self._by_path[path], ref)]
        return self._made_by(self._by_path[path])
