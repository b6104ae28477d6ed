"""What a supervisor's planner and reviewer are given and return, and what its rounds come to."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, Field

from schemas.agents import JsonSchema
from schemas.outcomes import Gap
from schemas.usage import MOST

T = TypeVar("T")


class Assignment(BaseModel):
    """Work for one of the workers."""

    worker: str
    input: Any = Field(validation_alias=AliasChoices("input", "task"))
    why: str = ""
    tokens: int = Field(default=0, ge=0, le=MOST)
    """What the planner expects it to cost, if it knows better than what the worker's agent declares. What is beyond the
    rest of the run's budget is refused."""
    usd: float = Field(default=0.0, ge=0.0, le=MOST)


class Assignments(BaseModel):
    """What a planner returns."""

    assignments: list[Assignment]


class WorkerInfo(BaseModel):
    """A worker, as its planner sees it."""

    description: str
    input: JsonSchema


class Finding(BaseModel):
    """What a worker produced."""

    round: int
    worker: str
    input: Any
    why: str
    output: Any


class Unmet(Gap):
    """An assignment that gave no result; `branch` is its worker."""

    round: int
    input: Any = None
    why: str = ""


class Brief(BaseModel, Generic[T]):
    """What a planner receives before each round, and a reviewer after it."""

    task: T
    round: int
    """From 1."""
    rounds: int
    """No round follows this one."""
    workers: dict[str, WorkerInfo]
    max_assignments: int
    found: list[Finding] = []
    """Of all rounds so far, in the order of the assignments."""
    gaps: list[Unmet] = []
    """Assignments that failed, were late or were refused, as far as no later round had one with the same input done."""
    feedback: str = ""
    """What the reviewer of the round before wants."""


class Review(BaseModel, Generic[T]):
    """What a reviewer returns: an answer that it accepts, or what it has so far and what the next round is for."""

    accept: bool
    answer: T | None = None
    feedback: str = ""
    findings: list[Any] = []
    """What it takes for new; a round after the first that brings nothing new is the last one. If it names none, what
    the workers produced is compared."""


class Supervised(BaseModel, Generic[T]):
    """What a supervisor comes to."""

    answer: T | None
    """The last reviewer's; None if none was asked before the budget ended it."""
    accepted: bool
    ended: Literal["accepted", "rounds", "nothing new", "budget", "failed"]
    """Why no further round followed: it was accepted, the bound was hit, nothing new came, the budget was used up, or a
    round failed."""
    rounds: int
    """Those that were reviewed."""
    feedback: str = ""
    """What the last reviewer still wanted."""
    found: list[Finding] = []
    """What workers produced in a round that nobody reviewed, because that failed: no answer knows of it."""
    gaps: list[Unmet] = []
