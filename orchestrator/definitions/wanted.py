"""What a node asks of its input, by the schemas of the agents that are given it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.definitions.produced import object_of
from schemas.agents import JsonSchema
from schemas.fit import inline
from schemas.workflows import (
    Approve,
    Assigned,
    Child,
    Debate,
    Each,
    FanOut,
    Leaf,
    Loop,
    Node,
    Pipeline,
    Round,
    Route,
    Stage,
    Supervise,
    WaitFor,
    Workflow,
)


def wanted_by(node: Node, workflow: Workflow) -> JsonSchema:
    """The schema that a node asks of its input."""
    match node:
        case Leaf(agent=agent):
            return inline(workflow.agents[agent].input_schema)
        case Pipeline(stages=stages):
            first = next((one for one in stages if not _only_looks(one)), stages[0])
            return wanted_by(first, workflow)
        case FanOut(branches=branches):
            return _all_of([wanted_by(branch, workflow) for branch in branches.values()])
        case Stage(body=body, fallback=fallback):
            return _all_of([wanted_by(one, workflow) for one in (body, fallback) if one is not None])
        case Route(choices=choices, by=by):
            asked = [Leaf(agent=by)] if by is not None else []
            return _all_of([wanted_by(one, workflow) for one in (*asked, *choices.values())])
        case Loop(body=body):
            return wanted_by(body, workflow)
        case Approve() | WaitFor():
            return {}
        case Child(workflow=other):
            return wanted_by(other.body, other)
        case Supervise() | Round():
            of = node if isinstance(node, Supervise) else node.supervisor
            return _all_of([_task(workflow, agent) for agent in (of.planner, of.reviewer)])
        case Assigned():
            return {}
        case Debate(debaters=debaters, judge=judge):
            asked_too = [_task(workflow, judge)] if judge is not None else []
            return _all_of([*(wanted_by(one, workflow) for one in debaters.values()), *asked_too])
        case Each(body=body, items=items, max_items=most):
            array = {"type": "array", "items": wanted_by(body, workflow), "maxItems": most}
            return array if items is None else object_of({items: array})


def _only_looks(node: Node) -> bool:
    """Whether what comes in goes on as it is, if a person lets it."""
    return isinstance(node, Approve) or (
        isinstance(node, Stage) and node.fallback is None and _only_looks(node.body)
    )


def _task(workflow: Workflow, agent: str) -> JsonSchema:
    """What an agent that is asked by the engine wants the task to be."""
    schema: JsonSchema = inline(workflow.agents[agent].input_schema).get("properties", {}).get("task", {})
    return schema


def _all_of(wants: Sequence[JsonSchema]) -> JsonSchema:
    different: list[JsonSchema] = []
    for want in wants:
        if want not in different:
            different.append(want)
    return different[0] if len(different) == 1 else {"allOf": different}
