"""What Baton runs in the benchmarks: agents that do nothing, and one that waits for a server."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp

from benchmarks.witness import of_environment
from orchestrator import each, fan_out, workflow
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
