"""Agents that remember, by words and by vectors of their own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from orchestrator import each, workflow
from workers import Context, agent, memory
from workers.scripted.embeddings import vector


def directions(texts: list[str]) -> list[list[float]]:
    return [vector(text, 32) for text in texts]


remembered = memory(embed=directions)


@agent(concurrency=20)
async def note_down(ctx: Context, number: int) -> int:
    """Remembers, and goes on when it may."""
    await ctx.memory.remember(f"number {number} was here", key="log")
    while not Path(os.environ["TEST_GATE"]).exists():
        await asyncio.sleep(0.02)
    return int(await ctx.memory.remember(f"number {number} has gone", key="log"))


@agent
def look_up(ctx: Context, numbers: list[int]) -> list[str]:
    """What fits, as a sync agent asks."""
    ctx.memory.remember(f"{len(numbers)} were counted", key="log")
    found = ctx.memory.recall("has number 7 gone?", key="log", most=3)
    return [f"{one.by}: {one.text}" for one in found]


noted = workflow("noted", each(note_down) >> look_up)
