"""A model agent whose tools leave traces in the ledger, and a plain agent that does one thing once and uses a tool."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import Literal

from pydantic import BaseModel

from orchestrator import workflow
from schemas import Limit, Price
from tests.chaos.ledger import NODE, visit
from workers import Agent, Context, ToolCall, agent, llm_agent, tool

PRICE = Price(input=10, output=100)
LONGEST = 100
"""Tokens of an answer, at most."""

LIMITS = {
    "look_up": (Limit(concurrency=3), Limit(per="tenant", rate="20/s", burst=3)),
    "pay": (Limit(concurrency=2),),
    "model": (Limit(concurrency=6, rate="40/s", burst=3), Limit(per="tenant", concurrency=4)),
}
"""What all workers keep to together, by what is called."""


class Order(BaseModel):
    number: int


class Bought(BaseModel):
    number: int
    found: int
    paid: Literal["paid", "unclear"]
    asked: int
    """How often this answer had been asked for before."""


@tool(limits=LIMITS["look_up"], trusted=True)
async def look_up(call: ToolCall, number: int, asked: int) -> int:
    """Look a number up."""
    with visit("look_up", call.idempotency_key, call.tenant):
        await asyncio.sleep(0.03)
    return 2 * number


@tool(limits=LIMITS["pay"], idempotent=False, trusted=True)
async def pay(call: ToolCall, number: int, asked: int) -> str:
    """Pay for a number. It must not be done twice."""
    with visit("pay", call.idempotency_key, call.tenant):
        await asyncio.sleep(0.05)
    return "paid"


def buyer_at(url: str) -> Agent:
    """The model agent, whose provider is there."""
    return llm_agent(
        "buyer",
        model="openai:scripted",
        input=Order,
        output=Bought,
        instructions="Buy it.",
        tools=[look_up, pay],
        base_url=url,
        key=NODE,  # so that the provider knows who asks
        price=PRICE,
        model_limits=LIMITS["model"],
        settings={"max_tokens": LONGEST},
    )


buyer = buyer_at(os.environ.get("CHAOS_PROVIDER", "http://127.0.0.1:9/v1"))


@agent
def book(ctx: Context, bought: Bought) -> Bought:
    """Write it into the books, once, and look whether it is there."""
    ctx.once("book", partial(_booked, f"{ctx.idempotency_key}:0", ctx.tenant))
    found = ctx.use(look_up, number=bought.number, asked=bought.asked)
    return bought.model_copy(update={"found": bought.found + found})


def _booked(key: str, tenant: str) -> None:
    with visit("book", key, tenant):
        time.sleep(0.01)


buying = workflow("buying", buyer >> book)
