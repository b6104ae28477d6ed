"""An agent of OpenAI's Agents SDK as an agent: it finds the team and writes to the customer.

pip install 'baton-agents[local,openai-agents]'
baton up --app examples.adapters.with_openai_agents
baton run support-openai '{"text": "My invoice is wrong."}' --app examples.adapters.with_openai_agents --watch
"""

from __future__ import annotations

from agents import Agent, MultiProvider, RunConfig
from openai import AsyncOpenAI
from pydantic import BaseModel

from examples.adapters.provider import model
from orchestrator import workflow
from workers.adapters import openai_agents


class Ticket(BaseModel):
    text: str


class Answer(BaseModel):
    team: str
    reply: str


def config() -> RunConfig:
    """Where the SDK finds its models: made in the worker, which has the key."""
    given = model()
    client = AsyncOpenAI(api_key=given.key, base_url=given.base_url)
    return RunConfig(
        model_provider=MultiProvider(openai_client=client, openai_use_responses=False), tracing_disabled=True
    )


clerk = Agent(
    "clerk",
    instructions="Say which team the ticket is for, in one word, and write two sentences to the customer.",
    model="gpt-5-mini",
    output_type=Answer,
)

desk = openai_agents("desk", clerk, input=Ticket, output=Answer, config=config, timeout=60, concurrency=50)

support = workflow("support-openai", desk)
