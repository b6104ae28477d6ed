"""Assignments: what a planner returned becomes work, as far as it may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs
from pydantic import ValidationError

from orchestrator.definitions.plan import Plan
from orchestrator.definitions.structure import supervisors
from orchestrator.engine.budgets import shortage, spent
from orchestrator.engine.json_texts import write
from orchestrator.engine.moves import Moves, Place
from schemas.supervision import Assignment
from schemas.usage import Budget, Usage
from schemas.workflows import Assigned, Leaf, Node, Supervise

_LONGEST = 200
"""Characters of a name or a reason that somebody else wrote."""


@dataclass(frozen=True)
class Work:
    """The assignments of one round, and those that were refused, each with its reason."""

    assignments: list[dict[str, Any]]
    refused: list[dict[str, Any]]


@dataclass(frozen=True)
class RoundTerms:
    """What the assignments of a round must meet."""

    supervisor: Supervise
    depth: int
    """Supervisors that a worker may have below each other."""
    inputs: Mapping[str, str]
    """By worker, the schema of what it takes, as JSON text."""
    costs: Mapping[str, Usage]
    """By worker, what an attempt of it may cost as far as its agent says."""
    budget: Budget
    """Of the run."""
    spent: Usage
    """By the run, so far."""


def entered(moves: Moves, place: Place, node: Assigned, ref: str, delay: float | None) -> None:
    """Give the worker its input."""
    given = moves.value(place.run, ref)
    worker = node.workers[given["worker"]]
    moves.open_part_on(place, given["worker"], worker, write(given["input"]), delay=delay)


def terms(moves: Moves, place: Place, supervisor: Supervise) -> RoundTerms:
    """What the assignments of the round at `place` must meet now."""
    plan = place.run.plan
    inputs = {
        name: write(plan.input_schema_at(worker_path(place, supervisor, name))) for name in supervisor.workers
    }
    costs = {name: _declared(plan, worker) for name, worker in supervisor.workers.items()}
    return RoundTerms(
        supervisor,
        _depth_left(plan, place.path),
        inputs,
        costs,
        plan.workflow.budget,
        spent(moves, place.run),
    )


def worker_path(place: Place, supervisor: Supervise, name: str) -> str:
    """A path at which a worker stands below the round at `place`: its alternative takes what it is given."""
    return place.below(f"work/0/{name}") + ("/do" if name in supervisor.alternatives else "")


def judged(given: Any, terms: RoundTerms) -> Work:
    """Which of the assignments that a planner returned are worked on, in their order, and why the others are not."""
    wanted = given.get("assignments") if isinstance(given, dict) else given
    if not isinstance(wanted, list):
        return Work([], [_refused({}, "the planner returned no list of assignments")])
    work, expected, most = Work([], []), Usage(), terms.supervisor.max_assignments
    for number, one in enumerate(wanted):
        if most in (len(work.assignments), len(work.refused)):
            reason = f"too many: a round has at most {most} assignments, {len(wanted) - number:,} more are left out"
            work.refused.append(_refused(one, reason))
            break
        try:
            assignment = Assignment.model_validate(one)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            work.refused.append(_refused(one, f"it is no assignment: {where} {first['msg']}"))
            continue
        cost = _cost(assignment, terms)
        if fault := _misfit(assignment, terms) or shortage(terms.budget, terms.spent, expected, cost):
            work.refused.append(_refused(one, fault))
        else:
            expected += cost
            given = {"worker": assignment.worker, "input": assignment.input, "why": assignment.why}
            work.assignments.append(given)
    return work


def _misfit(one: Assignment, terms: RoundTerms) -> str:
    """Why a worker cannot be given this; empty if it can."""
    worker = terms.supervisor.workers.get(one.worker)
    if worker is None:
        return f"there is no worker {one.worker[:_LONGEST]!r}, only {', '.join(terms.supervisor.workers)}"
    if supervisors(worker) > terms.depth:
        return f"too deep: {one.worker!r} delegates to others, which may not happen here"
    try:
        fault = next(_validator(terms.inputs[one.worker]).iter_errors(one.input), None)
    except ValueError as error:  # a schema that is none, or a value that is too deep
        return f"{one.worker!r} cannot take its input: {str(error).splitlines()[0][:_LONGEST]}"
    if fault is None:
        return ""
    where = "".join(f"{part}: " for part in [".".join(map(str, fault.instance_path))] if part)
    return f"{one.worker!r} cannot take its input: {where}{fault.message[:_LONGEST]}"


def _cost(one: Assignment, terms: RoundTerms) -> Usage:
    """What the planner expects, or else what the worker's agent says."""
    declared = terms.costs.get(one.worker, Usage())
    return Usage(
        tokens=one.tokens or declared.tokens,
        usd=one.usd or declared.usd,
        model_calls=declared.model_calls,
    )


def _declared(plan: Plan, worker: Node) -> Usage:
    bounds = plan.workflow.agents[worker.agent].bounds if isinstance(worker, Leaf) else None
    if bounds is None:
        return Usage()
    return bounds.known


def _refused(one: Any, reason: str) -> dict[str, Any]:
    raw = one if isinstance(one, dict) else {"input": one}
    return {
        "worker": str(raw.get("worker", ""))[:_LONGEST],
        "input": raw.get("input", raw.get("task")),
        "why": str(raw.get("why", ""))[:_LONGEST],
        "reason": reason,
    }


def _depth_left(plan: Plan, path: str) -> int:
    """How many supervisors may still come below the round at this path, by all those around it."""
    around = []
    while path := path.rpartition("/")[0]:
        node = plan.at(path).node
        if isinstance(node, Supervise):
            around.append(node)
    return min(node.depth - 1 - below for below, node in enumerate(around))


@lru_cache(maxsize=1_000)
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads(schema))
