"""What a debate's judge is given and returns, and what a debate comes to."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from schemas.base import Frozen
from schemas.outcomes import Gap

T = TypeVar("T")

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Case(BaseModel, Generic[T]):
    """What a judge receives: the question, the answers by debater, and the criteria with their weights."""

    task: Any
    positions: dict[str, T]
    rubric: dict[str, float]
    gaps: list[Gap] = []
    """Debaters that gave no answer."""


class Verdict(BaseModel):
    """What a judge returns. Who wins follows from the scores and the weights; it is not for the judge to say."""

    scores: dict[str, dict[str, Share]]
    """For every debater with an answer, how well it meets each criterion."""
    reason: str = ""
    confidence: Share = 1.0


class Dissent(Frozen, Generic[T]):
    """A debater that said something else than the winner."""

    debater: str
    answer: T


class Debated(BaseModel, Generic[T]):
    """What a debate comes to."""

    winner: str
    """The debater whose answer it is; of those who agree, the first."""
    answer: T
    by: Literal["judge", "majority", "quorum", "unanimous", "plurality"]
    reason: str
    confidence: Share
    """The judge's, or the share that agrees; times the share of debaters that gave an answer."""
    agreement: Share
    """Of the debaters that gave an answer, the share whose answers agree with the winner's."""
    supporters: list[str]
    """The winner and those who agree with it."""
    dissent: list[Dissent[T]] = []
    scores: dict[str, float] = {}
    """The weighted score of each debater, where a judge decided."""
    gaps: list[Gap] = []
    """Debaters that gave no answer."""
