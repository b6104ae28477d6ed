"""Crews for `tests/integration/adapters/test_crewai.py`: imported where CrewAI is, which is not where Baton is."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from pydantic import BaseModel


class Verdict(BaseModel):
    team: str
    urgent: bool = False


@tool
def look_up(customer: str) -> str:
    """What a customer has."""
    return f"{customer} has printers"


@tool
def wait(seconds: int) -> str:
    """Wait, with a process of its own that waits too."""
    child = subprocess.Popen(["sleep", str(seconds)])  # noqa: S607
    Path(os.environ["TEST_PIDS"]).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(seconds)
    return "done"


def _crew(tools: list[Any], typed: bool = False, stream: bool = False) -> Crew:
    llm = LLM(
        model="openai/scripted",
        base_url=os.environ["TEST_PROVIDER"],
        api_key=os.environ["SCRIPTED_KEY"],
        max_retries=0,
        stream=stream,
    )
    clerk = Agent(
        role="clerk", goal="find the team", backstory="a clerk", llm=llm, tools=tools, max_retry_limit=0
    )
    task = Task(
        description="Which team is this for? {text}",
        expected_output="JSON",
        agent=clerk,
        **({"output_pydantic": Verdict} if typed else {}),
    )
    return Crew(agents=[clerk], tasks=[task], verbose=True)


def plain() -> Crew:
    return _crew([look_up], stream=True)


def typed() -> Crew:
    seen = [name for name in os.environ if name.startswith("BATON_")]
    if seen:
        raise ValueError(f"a crew sees {seen}")
    return _crew([], typed=True)


def slow() -> Crew:
    return _crew([wait])
