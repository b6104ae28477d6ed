"""Async agents whose steps one worker may run one after the other, without a message between them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator import workflow
from workers import Context, agent

_present = 0


@agent
async def here(number: int) -> int:
    """The most of these that were ever under way at the same time, as far as this run has seen."""
    global _present
    _present += 1
    most = max(number, _present)
    await asyncio.sleep(0.02)
    _present -= 1
    return most


@agent
async def there(number: int) -> int:
    """The same under another name."""
    return await here.function(number)


@agent(rate_limit="100/s")
async def in_turn(number: int) -> int:
    """An agent whose turn is the consumer's to give."""
    return number


@agent(timeout=60)
async def held_up(ctx: Context, gate: str) -> int:
    """Waits until a file is there; returns which attempt it was."""
    Path(gate).with_suffix(f".{ctx.attempt}").touch()
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    return ctx.attempt


@agent
async def names(gate: str) -> str:
    """Its input."""
    return gate


relay = workflow("relay", here >> there >> here >> there >> here)
metered = workflow("metered", here >> in_turn >> here)
guarded = workflow("guarded", names >> held_up)
