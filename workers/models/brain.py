"""What a model agent is made of, for whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from schemas.usage import Price
from workers.tools.declared import Tool

MAX_CALLS = 15
WARN_AT = 10
"""The model call of a step with which somebody should look at it."""


@dataclass(frozen=True, eq=False)
class Brain:
    """A model, what it is told, what it may do, and the limits of both."""

    agent: str
    provider: str
    model: str
    """Its name at its provider."""
    instructions: str
    input: TypeAdapter[Any]
    output: Any
    tools: tuple[Tool, ...]
    base_url: str | None
    key: str | None
    """The environment variable with the credential for `base_url`."""
    price: Price | None
    max_calls: int
    corrections: int
    tool_timeout: float
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model as gates, limits and prices know it: `openai:gpt-5-mini`."""
        return f"{self.provider}:{self.model}"
