"""Evaluations: cases with what is expected of them, how each ended, and what all of them together say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, computed_field

from schemas.base import Frozen
from schemas.usage import Usage


class Case(Frozen):
    """One line of a file of cases."""

    id: str
    input: Any
    expected: Any = None
    line: int


class CaseResult(Frozen):
    """How one case ended."""

    id: str
    run: UUID | None
    """None for one that was not begun in time."""
    ending: Literal["scored", "failed", "check_error", "unfinished"]
    """Judged by the check; its run failed or was cancelled; the check raised; its run had not ended in time."""
    scores: dict[str, float] = Field(default_factory=dict)
    reason: str = ""
    seconds: float | None = None
    """From the start of the run's first step to its end."""
    usage: Usage = Usage()
    degraded: bool = False
    output: Any = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def score(self) -> float:
        """The mean of its scores; 0 for a case that has none, whatever the reason."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else 0.0


class Measured(Frozen):
    """What the cases say about one definition."""

    workflow: str
    version: int
    definition: str
    results: tuple[CaseResult, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def quality(self) -> float:
        """The mean score of all cases, those that failed included."""
        return sum(one.score for one in self.results) / len(self.results)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def scores(self) -> dict[str, float]:
        """The mean of each score over the cases that have it."""
        names = dict.fromkeys(name for one in self.results for name in one.scores)
        return {
            name: _mean([one.scores[name] for one in self.results if name in one.scores]) for name in names
        }

    @computed_field  # type: ignore[prop-decorator]
    @property
    def endings(self) -> dict[str, int]:
        """How many cases ended in which way."""
        kinds = ("scored", "failed", "check_error", "unfinished")
        return {kind: sum(one.ending == kind for one in self.results) for kind in kinds}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def usage(self) -> Usage:
        return sum((one.usage for one in self.results), Usage())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p50(self) -> float | None:
        """Seconds of the middle case."""
        return percentile([one.seconds for one in self.results if one.seconds is not None], 0.5)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def p95(self) -> float | None:
        """Seconds that 95 of 100 cases do not exceed."""
        return percentile([one.seconds for one in self.results if one.seconds is not None], 0.95)


class Change(Frozen):
    """A case that scores differently in two definitions."""

    id: str
    before: float
    after: float
    run_before: UUID | None
    run_after: UUID | None


class Comparison(Frozen):
    """Two definitions, case by case."""

    better: tuple[Change, ...]
    worse: tuple[Change, ...]
    same: int


class Evaluation(Frozen):
    """The whole of it."""

    name: str
    measured: Measured
    against: Measured | None = None
    comparison: Comparison | None = None


class Routed(Frozen):
    """Which way a router sent one case."""

    id: str
    expected: str
    choice: str | None
    """None if the agent that was asked has not answered in time."""
    by: str
    """`rule`, `agent`, `fallback` or `nobody`."""
    rule: str | None = None
    confidence: float | None = None
    reason: str = ""
    unsure: bool = False
    """The agent chose a way, but with too little confidence."""
    run: UUID | None = None
    """The run in which the agent was asked."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def right(self) -> bool:
        return self.choice == self.expected


class Decider(Frozen):
    """A rule, the agent or the fallback: how often it decided, and how often rightly."""

    name: str
    decided: int
    right: int


class RouteEvaluation(Frozen):
    """How well a router decides."""

    name: str
    workflow: str
    version: int
    definition: str
    step: str
    """The static path of the router."""
    choices: tuple[str, ...]
    results: tuple[Routed, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def accuracy(self) -> float:
        return self.share(one.right for one in self.results)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def left_open(self) -> float:
        """The share of cases that rules left open."""
        return self.share(one.by != "rule" for one in self.results)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unsure(self) -> float:
        """The share of cases in which the agent was less confident than the threshold."""
        return self.share(one.unsure for one in self.results)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fallback(self) -> float:
        """The share of cases that went to the fallback because nobody decided."""
        return self.share(one.by == "fallback" for one in self.results)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def deciders(self) -> tuple[Decider, ...]:
        """Who decided, in the order in which they come into play."""
        names = [_decider(one) for one in self.results]
        return tuple(
            Decider(
                name=name,
                decided=names.count(name),
                right=sum(one.right for one, by in zip(self.results, names, strict=True) if by == name),
            )
            for name in sorted(set(names), key=lambda name: (_ORDER.get(name, 0), name))
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def confusion(self) -> dict[str, dict[str, int]]:
        """By the expected way, how many cases went which way."""
        table: dict[str, dict[str, int]] = {}
        for one in self.results:
            row = table.setdefault(one.expected, {})
            went = one.choice or "nowhere"
            row[went] = row.get(went, 0) + 1
        return table

    def share(self, found: Iterable[bool]) -> float:
        """How many of all cases are so."""
        return sum(found) / len(self.results)


_ORDER = {"agent": 1, "fallback": 2, "nobody": 3}


def _decider(one: Routed) -> str:
    return f"rule {one.rule}" if one.rule is not None else one.by


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest of the values that so large a share of them does not exceed (nearest rank)."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
