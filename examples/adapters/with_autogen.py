"""An agent of AutoGen as an agent: it finds the team and writes to the customer.

pip install 'baton-agents[local,autogen]' 'autogen-ext[openai]'
baton up --app examples.adapters.with_autogen
baton run support-autogen '{"text": "My invoice is wrong."}' --app examples.adapters.with_autogen --watch
"""

from __future__ import annotations

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel

from examples.adapters.provider import model
from orchestrator import workflow
from workers.adapters import autogen
from workers.adapters.autogen_agent import Gate

INFO = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=True,
    structured_output=True,
    family=ModelFamily.UNKNOWN,
)


class Ticket(BaseModel):
    text: str


class Answer(BaseModel):
    team: str
    reply: str


def clerk(gated: Gate) -> AssistantAgent:
    """A new one for each attempt: it remembers what was said to it."""
    given = model()
    where = {} if given.base_url is None else {"base_url": given.base_url}
    client = OpenAIChatCompletionClient(model=given.name, api_key=given.key, model_info=INFO, **where)
    return AssistantAgent(
        "clerk",
        gated(client),
        system_message="Say which team the ticket is for, in one word, and write two sentences to the customer.",
        output_content_type=Answer,
    )


desk = autogen("desk", clerk, input=Ticket, output=Answer, timeout=60, concurrency=50)

support = workflow("support-autogen", desk)
