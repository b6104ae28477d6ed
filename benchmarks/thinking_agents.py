"""A model agent that is told how often to call its tool; `thinking_provider` plays its model."""

from __future__ import annotations

import os

from pydantic import BaseModel

from orchestrator import workflow
from schemas import Price
from workers import llm_agent

PROVIDER = os.environ.get("BENCHMARK_PROVIDER", "http://127.0.0.1:9/v1")
INSTRUCTIONS = "Do as you are told."


class Task(BaseModel):
    """What the model is to do; it answers with the number of its turns."""

    turns: int
    """Turns in which it calls the tool."""
    calls: int = 1
    """Calls in each of them, at the same time."""
    delay: float = 0.0
    """Seconds that each turn of the model takes."""
    number: int = 0
    """Tells conversations apart."""


class Told(BaseModel):
    turns: int


async def note(word: str) -> str:
    """Does nothing."""
    return word


thinker = llm_agent(
    "thinker",
    model="openai:scripted",
    base_url=PROVIDER,
    price=Price(input=1, output=1),
    input=Task,
    output=Told,
    instructions=INSTRUCTIONS,
    tools=[note],
    max_calls=50,
)
thinking = workflow("thinking", thinker)
