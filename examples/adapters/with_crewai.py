"""A crew of CrewAI as an agent: it finds the team and writes to the customer, in an environment of its own.

pip install 'baton-agents[local,crewai]'
python -m venv .venv-crewai && .venv-crewai/bin/pip install crewai
baton up --app examples.adapters.with_crewai
baton run support-crew '{"text": "My invoice is wrong."}' --app examples.adapters.with_crewai --watch
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from examples.adapters.provider import model
from orchestrator import workflow
from workers import Context
from workers.adapters import crewai


class Ticket(BaseModel):
    text: str


class Answer(BaseModel):
    team: str
    reply: str


def inputs(ctx: Context, ticket: Ticket) -> dict[str, Any]:
    """What the crew is given: the ticket, and where its model is."""
    return {"text": ticket.text, "base_url": model().base_url or ""}


desk = crewai(
    "desk",
    "examples.adapters.support_crew:crew",
    input=Ticket,
    output=Answer,
    prepare=inputs,
    timeout=120,
    concurrency=4,
)

support = workflow("support-crew", desk)
