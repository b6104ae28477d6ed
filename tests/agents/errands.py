"""Agents that run errands with all that workers share: circuits, cached results, limits, batches, memory, people.

Whatever they do outside leaves its trace in the ledger. What they give says who has answered.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from uuid import uuid4

from pydantic import BaseModel

from orchestrator import workflow
from schemas import Breaker, Limit, Price
from tests.chaos.ledger import NODE, visit
from workers import (
    Agent,
    AgentError,
    Batch,
    Context,
    Model,
    Retry,
    ToolCall,
    agent,
    fallback,
    llm_agent,
    tool,
)

PRICE = Price(input=1, output=1)
TTL = 2.0
"""Seconds for which a page of the atlas answers."""
BREAKER = Breaker(failures=0.4, window=3, minimum=4, open=0.3)
PATIENT = Retry(max=100, base=0.05, cap=0.5)
PAGES = 3
PARCELS = Batch(size=5, within=0.1)
RISKY = 9
"""Every so-manieth errand needs a signature, which a person allows for even ones."""

LIMITS = {
    "scout": (
        Limit(concurrency=6),
        Limit(per="tenant", rate="8/s", burst=4),
        Limit(per="key", key="input.customer", concurrency=1),
    ),
    "ring": (Limit(per="tenant", concurrency=3),),
    "post": (
        Limit(per="key", key="input.district", concurrency=1),
        Limit(per="tenant", rate="6/s", burst=2),
    ),
    "first": (Limit(rate="8/s", burst=2), Limit(per="tenant", concurrency=2)),
}
"""What all workers keep to together, by agent, tool or model."""


class Errand(BaseModel):
    number: int
    customer: str


class Way(BaseModel):
    """What was found out."""

    number: int
    page: str
    """The visit that has brought the page."""
    by: str
    """Which tool has answered."""
    signed: bool | None


class Parcel(Way):
    parcel: int


class Done(Parcel):
    model: str
    """Which has answered."""


@tool(cache=TTL, trusted=True)
async def atlas(call: ToolCall, page: int) -> str:
    """Look a page up; it says which visit this was."""
    with visit("atlas", call.idempotency_key, call.tenant, str(page)) as inside:
        await asyncio.sleep(0.1)
    return inside.name


@tool(breaker=BREAKER)
async def fickle(call: ToolCall, number: int) -> str:
    """Find the way, unless it storms."""
    with visit("fickle", call.idempotency_key, call.tenant) as inside:
        await asyncio.sleep(0.01)
        if inside.is_stormy:
            raise ConnectionError("it storms")
    return "fickle"


@tool
async def steady(call: ToolCall, number: int) -> str:
    """Find the way, whatever the weather."""
    with visit("steady", call.idempotency_key, call.tenant):
        await asyncio.sleep(0.01)
    return "steady"


search = fallback("search", [fickle, steady])


@tool(limits=LIMITS["post"])
async def post(call: ToolCall, district: int, number: int) -> int:
    """Send word, one at a time to a district of a tenant."""
    with visit("post", call.idempotency_key, call.tenant, str(district)):
        await asyncio.sleep(0.03)
    return number


@tool(risk="high", idempotent=False)
async def sign(call: ToolCall, number: int) -> bool:
    """Sign for it."""
    with visit("sign", call.idempotency_key, call.tenant, str(number)):
        await asyncio.sleep(0.01)
    return True


@agent(limits=LIMITS["scout"], retry=PATIENT)
async def scout(ctx: Context, errand: Errand) -> Way:
    """Asks all tools, and remembers where it was."""
    number = errand.number
    with visit("scout", f"{ctx.idempotency_key}:0", ctx.tenant, errand.customer):
        page = await ctx.use(atlas, page=number % PAGES)
        by = await ctx.use(search, number=number)
        await ctx.memory.remember(f"errand {number}", key=errand.customer)
        await ctx.use(post, district=number % 2, number=number)
        signed = await _signed(ctx, number) if number % RISKY == 0 else None
    return Way(number=number, page=page, by=by, signed=signed)


async def _signed(ctx: Context, number: int) -> bool:
    try:
        return bool(await ctx.use(sign, number=number))
    except AgentError as error:  # a person said no, or nobody knows whether it was done
        if "not allowed" in str(error) or "nobody knows" in str(error):
            return False
        raise


@agent(limits=LIMITS["ring"], breaker=BREAKER, retry=PATIENT)
async def ring(ctx: Context, way: Way) -> Way:
    """Nobody opens while it storms."""
    with visit("ring", f"{ctx.idempotency_key}:0", ctx.tenant) as inside:
        await asyncio.sleep(0.02)
        if inside.is_stormy:
            raise ConnectionError("it storms")
    return way


@agent(batch=PARCELS, retry=PATIENT)
async def pack(contexts: list[Context], ways: list[Way]) -> list[Parcel | AgentError]:
    """Packs some at once. One in five does not fit the first time."""
    call, given = uuid4().hex, list(zip(contexts, ways, strict=True))
    with ExitStack() as all_of_them:
        for ctx, way in given:
            about = f"{call} {ctx.attempt} {way.number}"
            all_of_them.enter_context(visit("pack", f"{ctx.idempotency_key}:0", ctx.tenant, about))
        await asyncio.sleep(0.03)
    return [
        AgentError(f"{way.number} does not fit")
        if way.number % 5 == 0 and ctx.attempt == 1
        else Parcel(**way.model_dump(), parcel=7 * way.number)
        for ctx, way in given
    ]


def clerk_at(url: str) -> Agent:
    """The model agent, whose provider is there."""
    first = Model("openai:first", url, key=NODE, price=PRICE, limits=LIMITS["first"], breaker=BREAKER)
    return llm_agent(
        "clerk",
        model=first,
        fallbacks=[Model("openai:second", url, key=NODE, price=PRICE)],
        input=Parcel,
        output=Done,
        instructions="Deliver it.",
        retry=PATIENT,
        settings={"max_tokens": 100},
    )


clerk = clerk_at(os.environ.get("CHAOS_PROVIDER", "http://127.0.0.1:9/v1"))

errands = workflow("errands", scout >> ring >> pack >> clerk)
