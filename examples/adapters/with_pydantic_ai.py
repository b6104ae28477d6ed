"""An agent of pydantic-ai as an agent: it finds the team and writes to the customer, and has a journal.

pip install 'baton-agents[local,pydantic-ai]'
baton up --app examples.adapters.with_pydantic_ai
baton run support-pydantic '{"text": "My invoice is wrong."}' --app examples.adapters.with_pydantic_ai --watch
"""

from __future__ import annotations

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from examples.adapters.provider import model
from orchestrator import workflow
from workers.adapters import pydantic_ai


class Ticket(BaseModel):
    text: str


class Answer(BaseModel):
    team: str
    reply: str


def clerk() -> Agent[None, Answer]:
    """Made in the worker, which has the key."""
    given = model()
    return Agent(
        OpenAIChatModel(given.name, provider=OpenAIProvider(base_url=given.base_url, api_key=given.key)),
        output_type=Answer,
        instructions="Say which team the ticket is for, in one word, and write two sentences to the customer.",
    )


desk = pydantic_ai("desk", clerk, input=Ticket, output=Answer, timeout=60, concurrency=50)

support = workflow("support-pydantic", desk)
