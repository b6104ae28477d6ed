"""What a scripted provider was asked, as it keeps it: never a credential."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

Wire = Literal["openai", "anthropic"]


@dataclass(frozen=True)
class Asked:
    """One request."""

    wire: Wire
    body: dict[str, Any]
    """As it came."""
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

    def holds(self, credential: str) -> bool:
        """Whether this is what the request was authorized with."""
        return self.credential == digest(credential)

    @property
    def said(self) -> str:
        """All that the model was shown, as JSON text."""
        return json.dumps([self.body.get("system"), self.body["messages"]], ensure_ascii=False)


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
