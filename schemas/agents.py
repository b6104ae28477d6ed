"""What an agent is to everybody who does not run it: a name, a queue, two schemas and some limits."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from schemas.base import Frozen
from schemas.breakers import Breaker
from schemas.limits import Limit
from schemas.usage import Bounds

DEFAULT_CONCURRENCY = 16
"""Attempts that a worker process runs at a time when neither it nor its agents say otherwise."""

AgentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
JsonSchema = dict[str, Any]


class Retry(Frozen):
    """How often a failed attempt is tried again, and how long to wait before it.

    The wait before retry *n* (from 1) is drawn evenly from `[d/2, d]`, `d = min(cap, base * factor**(n-1))`:
    "equal jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015). Without jitter, `d`.
    """

    max: int = Field(default=2, ge=0, le=100)
    """Retries after the first attempt; 0 means one attempt."""
    base: float = Field(default=0.5, gt=0)
    """Seconds before the first retry."""
    factor: float = Field(default=2.0, ge=1)
    cap: float = Field(default=60.0, gt=0)
    """Seconds that no wait exceeds."""
    jitter: bool = True

    def delay(self, retry: int, draw: float) -> float:
        """Seconds to wait before retry number `retry` (from 1); `draw` is a random number in [0, 1)."""
        full = min(self.cap, self.base * self.factor ** (retry - 1))
        return full * (0.5 + draw / 2) if self.jitter else full


class AgentSpec(Frozen):
    """One agent as data: all that the orchestrator knows about it."""

    name: AgentName
    input_schema: JsonSchema
    output_schema: JsonSchema
    description: str = ""
    is_async: bool = False
    timeout: float = Field(default=300.0, gt=0)
    """Seconds that one attempt may take."""
    retry: Retry = Retry()
    rate_limit: str | None = Field(default=None, pattern=r"^\d+(\.\d+)?(/[smh])?$")
    """Celery's `rate_limit`, such as `60/m`: a limit of each worker process, not of the cluster."""
    concurrency: int | None = Field(default=None, ge=1)
    """Attempts that one worker process runs at a time, unless the worker is told otherwise."""
    limits: tuple[Limit, ...] = Field(default=(), exclude_if=lambda limits: not limits)
    """Limits of the whole cluster. Those that workers declare count, also for runs of older definitions."""
    breaker: Breaker | None = Field(default=None, exclude_if=lambda breaker: breaker is None)
    """Leaves it alone for a while when its attempts keep failing."""
    bounds: Bounds | None = Field(default=None, exclude_if=lambda bounds: bounds is None)
    """What one attempt consumes at most. Left out where it is not declared: a definition keeps its id."""

    state: tuple[str, ...] | None = Field(default=None, exclude_if=lambda state: state is None)
    """The names of the shared state that it sees, and no others: see `workers.slices`. None is all of it."""

    @property
    def queue(self) -> str:
        """The name of the agent's queue, and of its Celery task."""
        return queue_of(self.name)


def queue_of(agent: str) -> str:
    """The queue and Celery task name of an agent."""
    return f"agent.{agent}"


def agent_of(queue: str) -> str:
    """The agent that a queue serves."""
    return queue.removeprefix("agent.")


def is_queue(name: str) -> bool:
    """Whether this is the name of an agent's queue and task."""
    return name.startswith("agent.")
