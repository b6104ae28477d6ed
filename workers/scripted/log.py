"""What a scripted provider was asked, as it keeps it: never a credential."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Wire = Literal["openai", "responses", "anthropic"]


class Used(NamedTuple):
    """A tool that the model had called, and what it was told of that."""

    tool: str
    arguments: dict[str, Any]
    told: str


@dataclass(frozen=True)
class Asked:
    """One request."""

    wire: Wire
    body: dict[str, Any]
    """As it came; of Responses the `input` also as `messages`, as in a chat."""
    conversation: str
    """The same for all requests that begin with the same words."""
    turn: int
    """How often the model has spoken before in this conversation."""
    again: int
    """How often this very turn had been asked for before."""
    credential: str | None
    """A digest of it, if there was one."""

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools that the model may call."""
        found = self.body.get("tools") or []
        return tuple(one["function"]["name"] if self.wire == "openai" else one["name"] for one in found)

    @property
    def used(self) -> tuple[Used, ...]:
        """The tools that were called before in this conversation, in the order of their results."""
        called: dict[str, tuple[str, Any]] = {}
        found = []
        for message in self.body["messages"]:
            for one in _calls(message):
                called[one[0]] = one[1:]
            for call, told in _results(message):
                name, arguments = called[call]
                found.append(Used(name, arguments, told))
        return tuple(found)

    def holds(self, credential: str) -> bool:
        """Whether this is what the request was authorized with."""
        return self.credential == digest(credential)

    @property
    def said(self) -> str:
        """All that the model was shown, as JSON text."""
        return json.dumps([self.body.get("system"), self.body["messages"]], ensure_ascii=False)


class Answered(NamedTuple):
    """A request that was answered, and what that would have cost."""

    asked: Asked
    input_tokens: int
    output_tokens: int
    usd: float
    """US dollars, at the price of the provider."""


def _calls(message: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The calls of a message on either wire: id, name, arguments."""
    for one in message.get("tool_calls") or ():
        yield one["id"], one["function"]["name"], json.loads(one["function"]["arguments"])
    for block in _blocks(message, "tool_use"):
        yield block["id"], block["name"], block["input"]


def _results(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a message tells of calls: id, text."""
    if message["role"] == "tool":
        yield message["tool_call_id"], _text(message["content"])
    for block in _blocks(message, "tool_result"):
        yield block["tool_use_id"], _text(block["content"])


def _blocks(message: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    content = message.get("content")
    return [one for one in content if one.get("type") == kind] if isinstance(content, list) else []


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(one.get("text", "") for one in content)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def conversation_of(body: dict[str, Any]) -> str:
    """What stands before the model's first words."""
    first: list[Any] = [body.get("system")]
    for message in body["messages"]:
        if message["role"] == "assistant":
            break
        first.append(message)
    return digest(json.dumps(first, sort_keys=True))


def turn_number(body: dict[str, Any]) -> int:
    return sum(message["role"] == "assistant" for message in body["messages"])
