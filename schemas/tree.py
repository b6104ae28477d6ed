"""A workflow as a tree: the parts of each node, their paths, and what stands below."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.agents import AgentName, AgentSpec
from schemas.workflows import (
    Approve,
    Assigned,
    Child,
    Debate,
    Each,
    FanOut,
    Joining,
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


def children(node: Node) -> Iterator[tuple[str, Node]]:
    """The parts of a node with their path segments; an item of an `each` and a round are `*`, a join is `join`."""
    match node:
        case Pipeline(stages=stages):
            yield from ((str(i), stage) for i, stage in enumerate(stages))
        case FanOut(branches=branches):
            yield from branches.items()
        case Each(body=body) | Loop(body=body):
            yield "*", body
        case Stage(body=body, fallback=fallback):
            yield "do", body
            if fallback is not None:
                yield "else", fallback
        case Route(choices=choices, by=by):
            yield from choices.items()
            if by is not None:
                yield "by", Leaf(agent=by)
        case Supervise():
            yield "*", node.round
        case Round(supervisor=of):
            yield "plan", Leaf(agent=of.planner)
            yield "work", node.work
            yield "review", Leaf(agent=of.reviewer)
        case Assigned(workers=workers):
            yield from workers.items()
        case Debate(judge=judge):
            yield "positions", node.positions
            if judge is not None:
                yield "judge", Leaf(agent=judge)
        case Leaf() | Approve() | WaitFor() | Child():
            return
    if isinstance(node, Joining) and node.join is not None:
        yield "join", Leaf(agent=node.join)


def below(path: str, segment: str) -> str:
    """The path of a part; that of the workflow itself is empty."""
    return f"{path}/{segment}" if path else segment


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every node below and including `node` with its static path, parents first."""
    yield path, node
    for segment, child in children(node):
        yield from walk(child, below(path, segment))


def child_workflows(workflow: Workflow) -> Iterator[tuple[str, Workflow]]:
    """The workflows that runs of this one start as runs of their own, with the paths of their steps."""
    for path, node in walk(workflow.body):
        if isinstance(node, Child):
            yield path, node.workflow


def agents_of(workflow: Workflow) -> dict[AgentName, AgentSpec]:
    """The agents that runs of this workflow call, and those of the runs that they start."""
    found: dict[AgentName, AgentSpec] = {}
    for _, child in child_workflows(workflow):
        found |= agents_of(child)
    return found | workflow.agents
