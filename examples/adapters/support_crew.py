"""The crew of `with_crewai`: imported where CrewAI is, so it imports nothing of Baton."""

from __future__ import annotations

from typing import Any

from crewai import LLM, Agent, Crew, Task
from pydantic import BaseModel


class Answer(BaseModel):
    team: str
    reply: str


def crew(inputs: dict[str, Any]) -> Crew:
    """A crew of one clerk. Without a `base_url` among its inputs the model is OpenAI's, and so is the key."""
    where = {"base_url": inputs["base_url"], "api_key": "none"} if inputs.get("base_url") else {}
    clerk = Agent(
        role="clerk",
        goal="Find the team that a ticket is for, and write to the customer.",
        backstory="You know all teams.",
        llm=LLM(model="openai/gpt-5-mini", **where),
    )
    task = Task(
        description="Say which team this ticket is for, in one word, and write two sentences to the customer: {text}",
        expected_output="The team and the reply.",
        agent=clerk,
        output_pydantic=Answer,
    )
    return Crew(agents=[clerk], tasks=[task])
