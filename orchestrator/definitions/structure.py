"""Whether a definition hangs together: faults that make it pointless to look at types."""

from __future__ import annotations

from collections.abc import Iterator

import jsonschema_rs

from schemas.errors import Fault
from schemas.tree import below, child_workflows, children, walk
from schemas.workflows import (
    MAX_DEPTH,
    MAX_NESTING,
    Approve,
    Assigned,
    Child,
    Debate,
    Each,
    FanOut,
    Joining,
    Leaf,
    Node,
    Round,
    Route,
    Supervise,
    WaitFor,
    Workflow,
)


def structural(workflow: Workflow) -> Iterator[Fault]:
    """Faults that make it pointless to look at types."""
    if nesting(workflow) > MAX_NESTING:
        yield Fault("", f"its child runs are {nesting(workflow)} below each other, more than {MAX_NESTING}")
    for path, node in walk(workflow.body):
        if isinstance(node, Leaf) and node.agent not in workflow.agents:
            yield Fault(path, f"there is no agent {node.agent!r} in `agents`")
        if isinstance(node, FanOut):
            yield from _branches(path, node)
        if isinstance(node, Route):
            yield from _ways(path, node)
        if isinstance(node, Approve):
            yield from _policy(path, node)
        if isinstance(node, WaitFor):
            yield from _expected(path, node)
        if isinstance(node, Supervise):
            yield from _crew(path, node, workflow)
        if isinstance(node, Debate):
            yield from _terms(path, node)
        if isinstance(node, Child):
            yield from _ancestry(path, node, workflow)
        for segment, child in children(node):
            made = {Round: Supervise, Assigned: Each}.get(type(child))
            if made is not None and not isinstance(node, made):
                yield Fault(
                    below(path, segment), f"a {child.pattern} is not written: it follows from supervise"
                )
        if isinstance(node, Joining) and isinstance(node.require, int) and node.require < 0:
            yield Fault(path, "require must not be negative")


def _branches(path: str, node: FanOut) -> Iterator[Fault]:
    if isinstance(node.require, int) and node.require > len(node.branches):
        yield Fault(path, f"require={node.require}, but there are only {len(node.branches)} branches")
    for reserved in {"join", "gaps"} & set(node.branches):
        yield Fault(below(path, reserved), f"{reserved!r} is a reserved name: rename the branch")


def _expected(path: str, node: WaitFor) -> Iterator[Fault]:
    if not node.has_default:
        return
    if node.within is None:
        yield Fault(path, "a default needs `within`: without it there is no end of waiting")
    for error in jsonschema_rs.validator_for(node.output).iter_errors(node.default):
        yield Fault(path, f"its default does not fit its output: {error.message}")


def _ways(path: str, node: Route) -> Iterator[Fault]:
    if node.fallback not in node.choices:
        yield Fault(path, f"the fallback {node.fallback!r} is not one of {', '.join(node.choices)}")
    if "by" in node.choices:
        yield Fault(below(path, "by"), "'by' is a reserved name: rename the choice")
    for rule in node.rules:
        if rule.go not in node.choices:
            yield Fault(
                path, f"rule {rule.name!r} goes to {rule.go!r}, which is not one of {', '.join(node.choices)}"
            )
        if (rule.when is None) == (not rule.keywords):
            yield Fault(path, f"rule {rule.name!r} needs either a condition or keywords")
    if node.by is None and not node.rules:
        yield Fault(path, "it has neither rules nor an agent to ask")


def _crew(path: str, node: Supervise, workflow: Workflow) -> Iterator[Fault]:
    for name, other in node.alternatives.items():
        for unknown in {name, other} - set(node.workers):
            yield Fault(path, f"alternatives name {unknown!r}, which is not one of {', '.join(node.workers)}")
        if name == other:
            yield Fault(path, f"the alternative of {name!r} is itself")
    around = _supervisors_around(path, workflow)
    if around >= MAX_DEPTH:
        yield Fault(path, f"it is supervisor {around + 1} below each other, more than {MAX_DEPTH}")


def _supervisors_around(path: str, workflow: Workflow) -> int:
    return sum(isinstance(one, Supervise) for at, one in walk(workflow.body) if path.startswith(f"{at}/"))


def supervisors(node: Node) -> int:
    """The most supervisors below each other in this part of a workflow, and in the child runs that it starts."""
    if isinstance(node, Child):
        return supervisors(node.workflow.body)
    return isinstance(node, Supervise) + max((supervisors(child) for _, child in children(node)), default=0)


def nesting(workflow: Workflow) -> int:
    """The most child runs below each other that a run of this workflow can start."""
    return max((1 + nesting(child) for _, child in child_workflows(workflow)), default=0)


def _ancestry(path: str, node: Child, workflow: Workflow) -> Iterator[Fault]:
    if workflow.name in _names(node.workflow):
        yield Fault(path, f"a run of {workflow.name!r} would start another run of {workflow.name!r}")
    levels = _supervisors_around(path, workflow) + supervisors(node)
    if levels > MAX_DEPTH:
        yield Fault(path, f"with it there are {levels} supervisors below each other, more than {MAX_DEPTH}")


def _names(workflow: Workflow) -> set[str]:
    """The names of a workflow and of all that its runs start."""
    return {workflow.name}.union(*(_names(child) for _, child in child_workflows(workflow)))


def _terms(path: str, node: Debate) -> Iterator[Fault]:
    if node.judge is None and (node.mode == "judge" or node.rubric):
        yield Fault(path, "it has no judge" if node.mode == "judge" else "it has a rubric, but no judge")
    if node.judge is not None and not node.rubric:
        yield Fault(path, "its judge needs a rubric: criteria with weights")
    if (node.mode == "quorum") != (node.quorum is not None):
        yield Fault(path, "quorum= belongs to mode='quorum'")
    if node.quorum is not None and node.quorum > len(node.debaters):
        yield Fault(path, f"quorum={node.quorum}, but there are only {len(node.debaters)} debaters")


def _policy(path: str, node: Approve) -> Iterator[Fault]:
    if (node.confidence is None) != (node.threshold is None):
        yield Fault(path, "`confidence` and `threshold` need each other")
    if bool(node.escalate_to) != (node.escalate_after is not None):
        yield Fault(path, "`escalate_to` and `escalate_after` need each other")
    if node.escalate_after is not None and node.expires is not None and node.escalate_after >= node.expires:
        yield Fault(
            path, f"it escalates after {node.escalate_after:g} s, but expires after {node.expires:g} s"
        )
