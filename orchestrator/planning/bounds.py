"""What a workflow can cost at most: pure functions of its definition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestrator.planning.amounts import NOTHING, Amount, added, dearest
from schemas.agents import AgentSpec
from schemas.usage import Bounds
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


@dataclass(frozen=True)
class WorstCase:
    """The worst case of one run and of the child runs that it starts, known before it starts.

    Repetitions after the death of a worker come on top: they are counted per step when they happen.
    """

    steps: int
    """Nodes of the runs' trees, agent calls and containers together."""
    calls: int
    """Steps that call an agent; also the messages of a run in which nothing fails."""
    attempts: int
    """Agent calls with every retry used up; also the messages of such a run."""
    parallel: int
    """Attempts at a time, if there are enough workers."""
    depth: int
    """Segments of the longest step path of the run itself."""
    seconds: float
    """The longest way from start to end: every attempt takes its full timeout, every wait its full length.

    Time in a queue with too few workers is not in it; the workflow's own timeout is.
    """
    time: Amount = field(default=NOTHING, compare=False)
    """The same way without the workflow's own timeout, by who takes the time."""
    model_calls: Amount = field(default=NOTHING, compare=False)
    tokens: Amount = field(default=NOTHING, compare=False)
    usd: Amount = field(default=NOTHING, compare=False)
    runs: int = 0
    """Child runs, those of child runs included."""


def bounds(workflow: Workflow) -> WorstCase:
    """The worst case of a run of `workflow`."""
    whole = _worst(workflow.body, workflow.agents)
    return replace(
        whole,
        steps=whole.steps - 1,  # the body itself is the run
        seconds=min(whole.seconds, workflow.timeout or math.inf),
    )


def longest_attempts(agent: AgentSpec) -> float:
    """Seconds that one call of an agent can take: all attempts, and the longest wait before each retry."""
    retry = agent.retry
    waits = sum(min(retry.cap, retry.base * retry.factor**n) for n in range(retry.max))
    return (retry.max + 1) * agent.timeout + waits


def _worst(node: Node, agents: dict[str, AgentSpec]) -> WorstCase:
    match node:
        case Leaf(agent=name):
            return _calls(agents[name])
        case Pipeline(stages=stages):
            return _sum([_worst(stage, agents) for stage in stages])
        case FanOut(branches=branches):
            worst = [_worst(branch, agents) for branch in branches.values()]
            slots = min(node.window, len(worst))
            parallel = sum(sorted((b.parallel for b in worst), reverse=True)[:slots])
            return _joined(node, worst, parallel, _makespan([b.seconds for b in worst], slots), agents)
        case Each(body=body, max_items=most):
            one = _worst(body, agents)
            slots = min(node.window, most)
            rounds = math.ceil(most / slots)
            return _joined(node, [_times(one, most)], slots * one.parallel, rounds * one.seconds, agents)
        case Stage(body=body, fallback=fallback):
            return _sum([_worst(one, agents) for one in (body, fallback) if one is not None])
        case Route(choices=choices, by=by):
            asked = [_worst(Leaf(agent=by), agents)] if by is not None else []
            return _sum([*asked, _dearest([_worst(way, agents) for way in choices.values()])])
        case Loop(body=body, max_rounds=most):
            return _sum([_times(_worst(body, agents), most)])
        case Approve(name=name, expires=expires):
            seconds = expires or math.inf
            return WorstCase(1, 0, 0, 0, 0, seconds, Amount.of(f"approve {name}", seconds))
        case WaitFor(type=type_, within=within):
            seconds = within or math.inf
            return WorstCase(1, 0, 0, 0, 0, seconds, Amount.of(f"wait for {type_}", seconds))
        case Child():
            return _child(node)
        case Supervise(max_rounds=most):
            return _sum([_times(_worst(node.round, agents), most)])
        case Round(supervisor=of):
            asked = [_worst(Leaf(agent=agent), agents) for agent in (of.planner, of.reviewer)]
            return _sum([*asked, _worst(node.work, agents)])
        case Assigned(workers=workers):
            return _sum([_dearest([_worst(worker, agents) for worker in workers.values()])])
        case Debate(judge=judge):
            asked = [_worst(Leaf(agent=judge), agents)] if judge is not None else []
            return _sum([_worst(node.positions, agents), *asked])


def _child(node: Child) -> WorstCase:
    """A run of its own, and the step that starts it; one that is let go takes no time of the run that does."""
    run = bounds(node.workflow)
    seconds = run.seconds if node.wait else 0.0
    time = run.time.scaled(seconds) if node.wait else NOTHING
    return replace(run, steps=1 + run.steps, depth=0, seconds=seconds, time=time, runs=1 + run.runs)


def _calls(agent: AgentSpec) -> WorstCase:
    """One call of an agent: what it declares is for one attempt, and every attempt is paid."""
    attempts, declared = agent.retry.max + 1, agent.bounds or Bounds()
    seconds = longest_attempts(agent)
    return WorstCase(
        *(1, 1, attempts, 1, 0, seconds),
        time=Amount.of(agent.name, seconds),
        model_calls=Amount.of(agent.name, declared.model_calls) * attempts,
        tokens=Amount.of(agent.name, declared.tokens) * attempts,
        usd=Amount.of(agent.name, declared.usd) * attempts,
    )


def _joined(
    node: FanOut | Each,
    branches: list[WorstCase],
    parallel: int,
    seconds: float,
    agents: dict[str, AgentSpec],
) -> WorstCase:
    """Branches beside each other, and then the join."""
    within = min(seconds, node.within or math.inf)
    together = _sum(branches, parallel, within)
    if node.join is None:
        return together
    join = _worst(Leaf(agent=node.join), agents)
    time = together.time + join.time
    return replace(_sum([*branches, join], parallel, within + join.seconds), time=time)


def _makespan(jobs: list[float], slots: int) -> float:
    """How long `slots` workers need at most for independent jobs taken in any order.

    The smaller of Graham's bound for list scheduling (1966) and of full rounds of the longest job.
    """
    longest = max(jobs)
    if math.isinf(longest):
        return longest
    return min((sum(jobs) - longest) / slots + longest, math.ceil(len(jobs) / slots) * longest)


def _dearest(ways: Sequence[WorstCase]) -> WorstCase:
    """The worst of each kind, when only one of these is taken."""
    return WorstCase(
        steps=max(way.steps for way in ways),
        calls=max(way.calls for way in ways),
        attempts=max(way.attempts for way in ways),
        parallel=max(way.parallel for way in ways),
        depth=max(way.depth for way in ways),
        seconds=max(way.seconds for way in ways),
        time=dearest(way.time for way in ways),
        model_calls=dearest(way.model_calls for way in ways),
        tokens=dearest(way.tokens for way in ways),
        usd=dearest(way.usd for way in ways),
        runs=max(way.runs for way in ways),
    )


def _times(one: WorstCase, times: int) -> WorstCase:
    """The same so many times, one after the other."""
    return replace(
        one,
        steps=one.steps * times,
        calls=one.calls * times,
        attempts=one.attempts * times,
        seconds=one.seconds * times,
        time=one.time * times,
        model_calls=one.model_calls * times,
        tokens=one.tokens * times,
        usd=one.usd * times,
        runs=one.runs * times,
    )


def _sum(parts: Sequence[WorstCase], parallel: int | None = None, seconds: float | None = None) -> WorstCase:
    """All parts of one composite: one after the other, unless `parallel` and `seconds` say otherwise."""
    time = added(p.time for p in parts)
    if parallel is None or seconds is None:
        parallel, seconds = max(p.parallel for p in parts), sum(p.seconds for p in parts)
    else:
        time = time.scaled(seconds)
    return WorstCase(
        steps=1 + sum(p.steps for p in parts),
        calls=sum(p.calls for p in parts),
        attempts=sum(p.attempts for p in parts),
        parallel=parallel,
        depth=1 + max(p.depth for p in parts),
        seconds=seconds,
        time=time,
        model_calls=added(p.model_calls for p in parts),
        tokens=added(p.tokens for p in parts),
        usd=added(p.usd for p in parts),
        runs=sum(p.runs for p in parts),
    )
