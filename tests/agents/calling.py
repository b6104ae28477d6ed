"""Agents whose calls all workers together limit."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from orchestrator import each, workflow
from schemas import Breaker, Limit, Retry
from workers import Context, agent
from workers.calls import Call, Made


async def use(
    ctx: Context, name: str, limits: tuple[Limit, ...], result: Any, *, hold: float = 0.0, **others: Any
) -> Any:
    """Call something that takes so many seconds, as a tool of this name; `others` are fields of the call."""
    place = ctx.place()
    key = f"{ctx.idempotency_key}:{place}"
    about = (ctx.workflow, ctx.tenant, ctx.run_id, ctx.path, ctx.attempt)
    call = Call("tool", name, "caller", *about, place, key, result, limits=limits, **others)

    async def act() -> Made:
        if hold:
            await asyncio.sleep(hold)
        if isinstance(result, Exception):
            raise result
        return Made(result() if callable(result) else result)

    async def made() -> Any:
        return (await ctx.through(call, act)).value

    return await ctx.kept(place, f"tool {name}", made, lambda found: found.value)


@agent
async def caller(ctx: Context, seconds: float) -> tuple[float, float]:
    began = 0.0

    async def act() -> Made:
        began = time.time()
        await asyncio.sleep(seconds)
        return Made([began, time.time()])

    place = ctx.place()
    about = (ctx.workflow, ctx.tenant, ctx.run_id, ctx.path, ctx.attempt)
    call = Call("tool", "bell", "caller", *about, place, "key", limits=(Limit(concurrency=2),))
    began, ended = (await ctx.through(call, act)).value
    return began, ended


@agent
async def idler(number: int) -> int:
    return number


many = workflow("many-calls", each(caller))
idle = workflow("idle", idler)
alone = workflow("alone", idler)


@agent(retry=Retry(max=0), breaker=Breaker(minimum=4, open=60), fallback=-1)
async def fragile(number: int) -> int:
    if number == 1:
        raise ValueError("down")
    return number


fragile_run = workflow("fragile-run", fragile)
