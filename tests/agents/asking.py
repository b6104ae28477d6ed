"""Agents that ask a person, with side effects before and after."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel

from orchestrator import approve, workflow
from workers import Context, Retry, agent


class Order(BaseModel):
    """What is to be shipped, and the file in which each side effect is a line."""

    what: str
    log: str


def note(order: Order, line: str) -> int:
    """A side effect: another line. How many there are now."""
    with Path(order.log).open("a") as file:
        file.write(f"{line}\n")
    return len(Path(order.log).read_text().splitlines())


def ship(ctx: Context, order: Order) -> Order:
    """Book, ask, ship."""
    ctx.once("book", lambda: note(order, "booked"))
    if ctx.ask_human(f"Ship {order.what}?", type=bool, audience="ann"):
        ctx.once("ship", lambda: note(order, "shipped"))
    return order


@agent(retry=Retry(max=0))
def clerk(ctx: Context, order: Order) -> Order:
    """In a thread."""
    return ship(ctx, order)


@agent(retry=Retry(max=0))
def forked_clerk(ctx: Context, order: Order) -> Order:
    """In a process."""
    return ship(ctx, order)


@agent(retry=Retry(max=0))
async def async_clerk(ctx: Context, order: Order) -> Order:
    """On the event loop."""

    async def booked() -> int:
        return await asyncio.to_thread(note, order, "booked")

    await ctx.once("book", booked)
    if await ctx.ask_human(f"Ship {order.what}?", type=bool, audience="ann"):
        await ctx.once("ship", lambda: note(order, "shipped"))
    return order


counters = {
    one.name: workflow(f"counter-{one.name.replace('_', '-')}", approve("order") >> one)
    for one in (clerk, forked_clerk, async_clerk)
}
