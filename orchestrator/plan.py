"""What a workflow can cost at most, and how it looks: pure functions of its definition."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from itertools import count

from schemas.agents import AgentSpec
from schemas.workflows import (
    Approve,
    Assigned,
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
    Workflow,
)


@dataclass(frozen=True)
class Bounds:
    """The worst case of one run, known before it starts.

    Repetitions after the death of a worker come on top: they are counted per step when they happen.
    """

    steps: int
    """Nodes of the run's tree, agent calls and containers together."""
    calls: int
    """Steps that call an agent; also the messages of a run in which nothing fails."""
    attempts: int
    """Agent calls with every retry used up; also the messages of such a run."""
    parallel: int
    """Attempts at a time, if there are enough workers."""
    depth: int
    """Segments of the longest step path."""
    seconds: float
    """The longest way from start to end: every attempt takes its full timeout, every wait its full length.

    Time in a queue with too few workers is not in it; the workflow's own timeout is.
    """


def bounds(workflow: Workflow) -> Bounds:
    """The worst case of a run of `workflow`."""
    whole = _worst(workflow.body, workflow.agents)
    return Bounds(
        steps=whole.steps - 1,  # the body itself is the run
        calls=whole.calls,
        attempts=whole.attempts,
        parallel=whole.parallel,
        depth=whole.depth,
        seconds=min(whole.seconds, workflow.timeout or math.inf),
    )


def longest_attempts(agent: AgentSpec) -> float:
    """Seconds that one call of an agent can take: all attempts, and the longest wait before each retry."""
    retry = agent.retry
    waits = sum(min(retry.cap, retry.base * retry.factor**n) for n in range(retry.max))
    return (retry.max + 1) * agent.timeout + waits


def _worst(node: Node, agents: dict[str, AgentSpec]) -> Bounds:
    match node:
        case Leaf(agent=name):
            agent = agents[name]
            return Bounds(1, 1, agent.retry.max + 1, 1, 0, longest_attempts(agent))
        case Pipeline(stages=stages):
            return _sum([_worst(stage, agents) for stage in stages])
        case FanOut(branches=branches):
            return _joined(node, [_worst(branch, agents) for branch in branches.values()], agents)
        case Each(body=body, max_items=most):
            return _joined(node, [_worst(body, agents)] * most, agents)
        case Stage(body=body, fallback=fallback):
            return _sum([_worst(one, agents) for one in (body, fallback) if one is not None])
        case Route(choices=choices, by=by):
            asked = [_worst(Leaf(agent=by), agents)] if by is not None else []
            return _sum([*asked, _dearest([_worst(way, agents) for way in choices.values()])])
        case Loop(body=body, max_rounds=most):
            return _sum([_worst(body, agents)] * most)
        case Approve(expires=expires):
            return Bounds(1, 0, 0, 0, 0, expires or math.inf)
        case Supervise(max_rounds=most):
            return _sum([_worst(node.round, agents)] * most)
        case Round(supervisor=of):
            asked = [_worst(Leaf(agent=agent), agents) for agent in (of.planner, of.reviewer)]
            return _sum([*asked, _worst(node.work, agents)])
        case Assigned(workers=workers):
            return _sum([_dearest([_worst(worker, agents) for worker in workers.values()])])
        case Debate(judge=judge):
            asked = [_worst(Leaf(agent=judge), agents)] if judge is not None else []
            return _sum([_worst(node.positions, agents), *asked])


def _joined(node: FanOut | Each, branches: list[Bounds], agents: dict[str, AgentSpec]) -> Bounds:
    slots = min(node.parallel or len(branches), len(branches))
    parallel = sum(sorted((b.parallel for b in branches), reverse=True)[:slots])
    seconds = min(_makespan([b.seconds for b in branches], slots), node.within or math.inf)
    if node.join is None:
        return _sum(branches, parallel, seconds)
    join = _worst(Leaf(agent=node.join), agents)
    return _sum([*branches, join], parallel, seconds + join.seconds)


def _makespan(jobs: list[float], slots: int) -> float:
    """How long `slots` workers need at most for independent jobs taken in any order.

    The smaller of Graham's bound for list scheduling (1966) and of full rounds of the longest job.
    """
    longest = max(jobs)
    if math.isinf(longest):
        return longest
    return min((sum(jobs) - longest) / slots + longest, math.ceil(len(jobs) / slots) * longest)


def _dearest(ways: list[Bounds]) -> Bounds:
    """The worst of each kind, when only one of these is taken."""
    return Bounds(*(max(figures) for figures in zip(*map(astuple, ways), strict=True)))


def _sum(parts: list[Bounds], parallel: int | None = None, seconds: float | None = None) -> Bounds:
    """All parts of one composite: one after the other, unless `parallel` and `seconds` say otherwise."""
    if parallel is None or seconds is None:
        parallel, seconds = max(p.parallel for p in parts), sum(p.seconds for p in parts)
    return Bounds(
        steps=1 + sum(p.steps for p in parts),
        calls=sum(p.calls for p in parts),
        attempts=sum(p.attempts for p in parts),
        parallel=parallel,
        depth=1 + max(p.depth for p in parts),
        seconds=seconds,
    )


def mermaid(workflow: Workflow) -> str:
    """The workflow as a Mermaid flowchart."""
    return "\n".join(_Chart(workflow).lines) + "\n"


class _Chart:
    """Draws one node after the other; a drawn node answers with the ids where it is entered and left."""

    def __init__(self, workflow: Workflow) -> None:
        self.lines = ["flowchart TD"]
        self._ids = (f"n{number}" for number in count(1))
        start = self._box("([", "input", "])", indent=1)
        _, exits = self._draw(workflow.body, [start], indent=1)
        self._arrows(exits, self._box("([", "output", "])", indent=1), indent=1)

    def _draw(self, node: Node, before: list[str], indent: int) -> tuple[str, list[str]]:
        """Draw `node` after the nodes `before`; the id it is entered by, and those it is left by."""
        match node:
            case Leaf(agent=agent):
                box = self._box("[", agent, "]", indent)
                self._arrows(before, box, indent)
                return box, [box]
            case Approve():
                box = self._box("[/", _title(node), "/]", indent)
                self._arrows(before, box, indent)
                return box, [box]
            case Pipeline(stages=stages):
                first = ""
                for stage in stages:
                    entry, before = self._draw(stage, before, indent)
                    first = first or entry
                return first, before
            case FanOut() | Each():
                return self._joined(node, before, indent)
            case Stage(body=body, fallback=fallback):
                return self._framed(node, [body] if fallback is None else [body, fallback], before, indent)
            case Loop(body=body):
                return self._framed(node, [body], before, indent)
            case Supervise():
                return self._framed(node, [node.round], before, indent)
            case Round(supervisor=of):
                stages = (Leaf(agent=of.planner), node.work.body, Leaf(agent=of.reviewer))
                return self._draw(Pipeline(stages=stages), before, indent)
            case Assigned(workers=workers):
                return self._framed(node, list(workers.values()), before, indent)
            case Debate(debaters=debaters, judge=judge):
                frame, exits = self._framed(node, list(debaters.values()), before, indent)
                return frame, exits if judge is None else self._draw(Leaf(agent=judge), exits, indent)[1]
            case Route(choices=choices, by=by):
                box = self._box("{{", _title(node), "}}", indent)
                self._arrows(before, box, indent)
                if by is not None:
                    asked = self._box("[", by, "]", indent)
                    self._line(indent, f"{box} -. asks .-> {asked}")
                left: list[str] = []
                for way in choices.values():
                    left += self._draw(way, [box], indent)[1]
                return box, left

    def _framed(
        self, node: Node, inside: list[Node], before: list[str], indent: int
    ) -> tuple[str, list[str]]:
        frame = next(self._ids)
        self._line(indent, f'subgraph {frame}["{_escape(_title(node))}"]')
        for part in inside:
            self._draw(part, [], indent + 1)
        self._line(indent, "end")
        self._arrows(before, frame, indent)
        return frame, [frame]

    def _joined(self, node: FanOut | Each, before: list[str], indent: int) -> tuple[str, list[str]]:
        frame = next(self._ids)
        self._line(indent, f'subgraph {frame}["{_escape(_title(node))}"]')
        branches = node.branches.values() if isinstance(node, FanOut) else [node.body]
        for branch in branches:
            self._draw(branch, [], indent + 1)
        self._line(indent, "end")
        self._arrows(before, frame, indent)
        end = (
            self._box("[", node.join, "]", indent) if node.join else self._box("((", "results", "))", indent)
        )
        self._arrows([frame], end, indent)
        return frame, [end]

    def _box(self, left: str, text: str, right: str, indent: int) -> str:
        name = next(self._ids)
        self._line(indent, f'{name}{left}"{_escape(text)}"{right}')
        return name

    def _arrows(self, sources: list[str], target: str, indent: int) -> None:
        for source in sources:
            self._line(indent, f"{source} --> {target}")

    def _line(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)


def _title(node: Node) -> str:
    match node:
        case Stage():
            return _stage_title(node)
        case Route(rules=rules, fallback=fallback):
            return f"route: {len(rules)} rules, else {fallback}"
        case Loop(until=until, max_rounds=most):
            return f"loop until {until or 'nothing changes'}, at most {most} rounds"
        case Approve(name=name, risk=risk):
            return f"approve {name}" + (f", risk {risk}" if risk != "high" else "")
        case Supervise(max_rounds=most, within=within):
            return f"supervise, at most {most} rounds" + (f", each within {within:g} s" if within else "")
        case Round():
            return "round"
        case Assigned():
            return "assignments to workers"
        case Debate(mode=mode, quorum=quorum):
            return f"debate, {mode}" + (f" of {quorum}" if quorum else "")
        case FanOut() | Each():
            return _joined_title(node)
    return node.pattern


def _stage_title(node: Stage) -> str:
    parts = [f"when {node.when}"] if node.when else []
    parts += ["optional"] if node.optional else []
    parts += ["or else"] if node.fallback is not None else []
    return ", ".join(parts) or "stage"


def _joined_title(node: FanOut | Each) -> str:
    if isinstance(node, Each):
        parts = [f"each of {node.items}" if node.items else "each", f"up to {node.max_items:,}"]
    else:
        parts = ["fan-out"]
    if node.require != "all":
        parts.append(f"require {node.require}")
    if node.within is not None:
        parts.append(f"within {node.within:g} s")
    if node.parallel is not None:
        parts.append(f"{node.parallel} at a time")
    return ", ".join(parts)


def _escape(text: str) -> str:
    """Text inside a quoted Mermaid label."""
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
