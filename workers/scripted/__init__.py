"""A model provider that says what it is told to say: for tests of agents, here and in your own project.

It is a real HTTP server on this machine that speaks OpenAI's chat completions and Responses, its embeddings, and
Anthropic's messages (text, tools, structured output, streaming), and keeps a log of what it was asked:

    with ScriptedProvider([call("search", query="tides"), answer({"text": "Twice a day."})]) as provider:
        ...  # an agent with base_url=provider.base_url
    assert [asked.turn for asked in provider.log] == [0, 1]
"""

from workers.scripted.log import Answered, Asked, Used
from workers.scripted.script import Call, Refusal, Reply, Script, Turn, answer, call, refuse, text
from workers.scripted.server import ScriptedProvider

__all__ = [
    "Answered",
    "Asked",
    "Call",
    "Refusal",
    "Reply",
    "Script",
    "ScriptedProvider",
    "Turn",
    "Used",
    "answer",
    "call",
    "refuse",
    "text",
]
