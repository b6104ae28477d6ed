"""A model agent, and a run in which many of its calls share a budget that is too small for them."""

from __future__ import annotations

import os

from pydantic import BaseModel

from orchestrator import each, workflow
from schemas import Budget, Price
from workers import llm_agent


class Text(BaseModel):
    text: str


PRICE = Price(input=10, output=100)
BUDGET = 0.25
CALLS = 60

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
