"""Agents that do what they should."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from orchestrator import each, fan_out, workflow
from schemas.outcomes import Gathered
from workers import Context, agent


@agent
def increment(number: int) -> int:
    """One more."""
    return number + 1


@agent
async def double(number: int) -> int:
    """Twice as much."""
    return 2 * number


@agent
def count_to(number: int) -> list[int]:
    """The numbers below a number."""
    return list(range(number))


@agent
def add_up(numbers: list[int]) -> int:
    """Their sum."""
    return sum(numbers)


@agent
def add_what_is_there(numbers: Gathered[int]) -> dict[str, Any]:
    """The sum of the results, and the branches that gave none."""
    return {"sum": sum(numbers.results), "gaps": [gap.branch for gap in numbers.gaps]}


@agent
async def describe(ctx: Context, number: int) -> Mapping[str, Any]:
    """The envelope that it was given."""
    ctx.progress(seen=number)
    ctx.spend(tokens=10, usd=0.5, model_calls=1)
    return {
        "intent": ctx.intent,
        "path": ctx.path,
        "attempt": ctx.attempt,
        "tenant": ctx.tenant,
        "labels": dict(ctx.labels),
        "key": ctx.idempotency_key.rpartition(":")[2],
        "has time": 0 < ctx.remaining <= 300,
    }


@agent
def forked_process(number: int) -> int:
    """The id of the process that runs it."""
    return os.getpid()


class _Meeting:
    """Where agents wait until all of them are there, on the one event loop."""

    def __init__(self) -> None:
        self.present = 0
        self.full = asyncio.Event()


_meetings: dict[str, _Meeting] = {}


@agent(timeout=60)
async def meet(name: str) -> int:
    """Waits for the 99 others; returns the identity of its event loop."""
    meeting = _meetings.setdefault(name.partition(" ")[0], _Meeting())
    meeting.present += 1
    if meeting.present == 100:
        meeting.full.set()
    await meeting.full.wait()
    return id(asyncio.get_running_loop())


nobody_serves_it = agent(name="unserved")(increment.function)

line = workflow("line", increment >> double >> increment >> double >> increment)
spread = workflow("spread", increment >> fan_out(increment, double, join=add_what_is_there))
mapped = workflow("mapped", count_to >> each(double, join=add_up))
envelope = workflow("envelope", increment >> describe)
meeting = workflow("meeting", each(meet))
forked = workflow("forked", forked_process >> increment)
nested = workflow("nested", count_to >> each(count_to >> each(increment >> double, join=add_up), join=add_up))
doubled = workflow("doubled", double)
single = workflow("single", increment)
unserved = workflow("unserved", increment >> nobody_serves_it)
