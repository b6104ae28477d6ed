"""What Baton runs in the benchmarks: agents that do nothing, and one that waits for a server."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp

from benchmarks.witness import of_environment
from orchestrator import approve, child, debate, each, fan_out, loop, route, rule, supervise, workflow
from schemas import Assignment, Assignments, Brief, Case, Review, Verdict
from schemas.outcomes import Gathered
from workers import AgentError, Context, Retry, agent


@agent
async def first(n: int) -> int:
    return n + 1


@agent
async def second(n: int) -> int:
    return n + 1


@agent
async def third(n: int) -> int:
    return n + 1


@agent
async def fourth(n: int) -> int:
    return n + 1


@agent
async def fifth(n: int) -> int:
    return n + 1


@agent
async def branch(n: int) -> int:
    return n + 1


@agent
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@agent
async def total_named(numbers: dict[str, int]) -> int:
    return sum(numbers.values())


@agent(timeout=600)
async def long(seconds: float) -> float:
    """Takes its time."""
    await asyncio.sleep(seconds)
    return seconds


@agent(timeout=600)
async def hold(token: str) -> str:
    """Starts, and ends when it is told to."""
    witness = of_environment()
    witness.started(token)
    while not witness.has_released(token):
        await asyncio.sleep(0.02)
    return token


_session: aiohttp.ClientSession | None = None


@agent
async def ask(n: int) -> int:
    """One request, over connections that the whole process shares."""
    global _session
    if _session is None:
        _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    async with _session.get(os.environ["BENCHMARK_SERVER"]) as answer:
        return n + len(await answer.read())


@agent(retry=Retry(max=1, base=3_600, cap=3_600, jitter=False))
async def fails_once(ctx: Context, n: int) -> int:
    if ctx.attempt == 1:
        raise AgentError("not yet")
    return n


@agent
async def total_there(numbers: Gathered[int]) -> int:
    return sum(numbers.results)


@agent
async def absent(n: int) -> int:
    """No worker serves it."""
    return n


@agent
async def plan(brief: Brief[int]) -> Assignments:
    """The same for each of the workers."""
    return Assignments(assignments=[Assignment(worker=name, input=brief.round) for name in brief.workers])


@agent
async def review(brief: Brief[int]) -> Review[int]:
    """Never content before the last round."""
    found = [one.output for one in brief.found if one.round == brief.round]
    return Review[int](accept=brief.round == brief.rounds, answer=sum(found), findings=found)


@agent
async def judge(case: Case[int]) -> Verdict:
    """All are right."""
    return Verdict(scores={name: {"truth": 1.0} for name in case.positions})


STAGES = (first, second, third, fourth, fifth)

pipeline = workflow("benchmark-pipeline", first >> second >> third >> fourth >> fifth)
_branches: dict[str, Any] = {f"b{number}": branch for number in range(10)}
ten = workflow("benchmark-fan-out", fan_out(join=total_named, **_branches))
many = workflow("benchmark-each", each(branch, join=total))
waiting = workflow("benchmark-waits", each(ask, join=total, parallel=1_000))
lasting = workflow("benchmark-lasting", long)
holding = workflow("benchmark-holding", hold)
single = workflow("benchmark-single", first)
retried = workflow("benchmark-retried", fails_once)
halved = workflow("benchmark-halved", fan_out(first, absent, within=3_600, require="any", join=total_there))
limited = workflow("benchmark-limited", absent, timeout=3_600)

ROUNDS = 10
routed = workflow(
    "benchmark-route",
    route(first, second, rules=[rule("odd", go="first", when="input % 2 == 1")], fallback="second"),
)
looped = workflow("benchmark-loop", loop(first, until=f"round == {ROUNDS}"))
supervised = workflow("benchmark-supervise", supervise(first, second, third, planner=plan, reviewer=review))
debated = workflow("benchmark-debate", debate(first, second, third, judge=judge, rubric={"truth": 1.0}))
started = workflow("benchmark-child", child(workflow("benchmark-inner", first)))
family = workflow("benchmark-family", each(child(workflow("benchmark-inner", branch)), join=total))
approved = workflow("benchmark-approve", approve("go on") >> first)
