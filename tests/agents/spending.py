"""Agents whose runs share budgets that are too small for them: of a model, and one that tells what it has consumed."""

from __future__ import annotations

import asyncio
import os
import time

from pydantic import BaseModel

from orchestrator import each, workflow
from schemas import Bounds, Budget, Price
from workers import Context, agent, llm_agent


class Text(BaseModel):
    text: str


PRICE = Price(input=10, output=100)
BUDGET = 0.25
CALLS = 60
FEW = 20
"""Calls that a run may make of a model."""

spender = llm_agent(
    "spender",
    model="openai:scripted",
    input=Text,
    output=Text,
    instructions="Write.",
    base_url=os.environ.get("TEST_PROVIDER", "http://127.0.0.1:9/v1"),
    price=PRICE,
    settings={"max_tokens": 100},
)

spree = workflow("spree", each(spender, parallel=CALLS, require=1), budget=Budget(usd=BUDGET))
counted = workflow("counted", each(spender, parallel=CALLS, require=1), budget=Budget(model_calls=FEW))

MOST = Bounds(tokens=30)
"""What an attempt of a teller consumes; it tells when it ends."""
TOLD = 200
"""Tokens of the budget of a run."""


@agent(bounds=MOST)
async def teller(ctx: Context, given: Text) -> Text:
    await asyncio.sleep(0.2)
    ctx.spend(tokens=20 + len(given.text) % 11)
    return given


@agent(bounds=MOST)
def sync_teller(ctx: Context, given: Text) -> Text:
    time.sleep(0.2)
    ctx.spend(tokens=20 + len(given.text) % 11)
    return given


told = workflow("told", each(teller, parallel=CALLS, require=1), budget=Budget(tokens=TOLD))
told_in_threads = workflow(
    "told-in-threads", each(sync_teller, parallel=CALLS, require=1), budget=Budget(tokens=TOLD)
)
