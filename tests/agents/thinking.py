"""A model agent with a tool that is slow the third time."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from pydantic import BaseModel

from orchestrator import workflow
from schemas import Price
from workers import ToolCall, llm_agent


class Question(BaseModel):
    about: str


class Report(BaseModel):
    lines: list[str]


async def note(call: ToolCall, line: str) -> int:
    """Write a line down."""
    log, gate = Path(os.environ["TEST_LOG"]), Path(os.environ["TEST_GATE"])
    with log.open("a") as file:
        file.write(json.dumps({"line": line, "key": call.idempotency_key}) + "\n")
    while line == "c" and not gate.exists():
        await asyncio.sleep(0.02)
    return len(line)


thinker = llm_agent(
    "thinker",
    model="openai:scripted",
    input=Question,
    output=Report,
    instructions="Write a report.",
    tools=[note],
    base_url=os.environ.get("TEST_PROVIDER", "http://127.0.0.1:9/v1"),
    key="SCRIPTED_KEY",
    price=Price(input=1, output=10),
)

thought = workflow("thought", thinker)
