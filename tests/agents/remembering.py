"""Agents that share what they know."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from orchestrator import each, fan_out, workflow
from workers import Context, agent


@agent
def tally(ctx: Context, number: int) -> int:
    """Counts, takes its time, and counts again."""
    ctx.state.merge("sum", number, "add")
    time.sleep(0.05)
    ctx.state.merge("seen", [number], "union")
    return int(ctx.state.merge("calls", 1, "add"))


@agent
async def awaited_tally(ctx: Context, number: int) -> int:
    """The same, awaited."""
    await ctx.state.merge("sum", number, "add")
    await asyncio.sleep(0.05)
    await ctx.state.merge("seen", [number], "union")
    return int(await ctx.state.merge("calls", 1, "add"))


@agent
def recall(ctx: Context, branches: Any) -> dict[str, Any]:
    """All that the steps before have noted."""
    ctx.decide("recall", "it was asked for", {"forget": 0.1})
    ctx.session("room").append({"run": str(ctx.run_id)})
    return dict(ctx.state.all()) | {"talked": len(ctx.session("room").history())}


tallying = workflow("tallying", each(fan_out(tally, awaited_tally)) >> recall)
