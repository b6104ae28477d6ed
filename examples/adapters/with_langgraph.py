"""A graph of LangGraph as an agent: one node finds the team, the next one writes to the customer.

pip install 'baton-agents[local,langgraph]' langchain-openai
baton up --app examples.adapters.with_langgraph
baton run support-graph '{"text": "My invoice is wrong."}' --app examples.adapters.with_langgraph --watch
"""

from __future__ import annotations

from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from pydantic import BaseModel, SecretStr
from typing_extensions import TypedDict

from examples.adapters.provider import model
from orchestrator import workflow
from workers.adapters import langgraph


class Ticket(BaseModel):
    text: str


class Answer(BaseModel):
    team: str
    reply: str


class State(TypedDict, total=False):
    text: str
    team: str
    reply: str


async def ask(question: str) -> str:
    given = model()
    llm = ChatOpenAI(model=given.name, base_url=given.base_url, api_key=SecretStr(given.key))
    return str((await llm.ainvoke(question)).text)


async def triage(state: State) -> State:
    return {"team": await ask(f"Which team is this for? One word.\n\n{state['text']}")}


async def reply(state: State) -> State:
    return {"reply": await ask(f"Write two sentences to the customer.\n\n{state['text']}")}


graph = (
    StateGraph(State).add_node(triage).add_node(reply).add_edge(START, "triage").add_edge("triage", "reply")
)

desk = langgraph("desk", graph.compile(), input=Ticket, output=Answer, timeout=60, concurrency=50)

support = workflow("support-graph", desk)
