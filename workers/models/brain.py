"""What a model agent is made of, for whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from schemas.breakers import Breaker
from schemas.usage import Budget
from workers.cuts.declared import ContextBudget
from workers.guards.policy import Guard
from workers.memory.declared import Memory
from workers.models.named import Model
from workers.tools.declared import Allowed

MAX_CALLS = 15
WARN_AT = 10
"""The model call of a step with which somebody should look at it."""

STOOD_IN_FOR = Breaker(minimum=3)
"""That of a model that has a fallback and says nothing of a breaker."""


@dataclass(frozen=True, eq=False)
class Brain:
    """A model, what it is told, what it may do, and the limits of both."""

    agent: str
    models: tuple[Model, ...]
    """The cheapest first: each of the others answers what the one before it could not."""
    fallbacks: tuple[Model, ...]
    """Stand in for any of them that cannot be reached."""
    instructions: str
    input: TypeAdapter[Any]
    output: Any
    answers: TypeAdapter[Any]
    """Of `output`."""
    confidence: str | None
    """How sure of its answer a model is that is not the last one: an expression over `output` and `input`."""
    threshold: float
    tools: tuple[Allowed, ...]
    """What it may call; it does not see anything else."""
    max_calls: int
    corrections: int
    tool_timeout: float
    call_timeout: float
    stream: bool
    """Whether it is heard while it speaks."""
    guard: Guard
    settings: Mapping[str, Any]
    budget: Budget | None = None
    """What it may consume in a day (UTC), all its steps together."""
    memory: Memory | None = None
    context: ContextBudget | None = None
    state: tuple[str, ...] | None = None
    """What it is shown of the state that agents share; none if it declares nothing."""
