"""Worst cases with their causes: how much at most, who brings it about, and who does not say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Amount:
    """So much at most, by what causes it (agents, and what is waited for)."""

    causes: Mapping[str, float] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    """Agents that do not declare their share: then the total is no bound."""

    @classmethod
    def of(cls, cause: str, value: float | None) -> Amount:
        """What one agent declares, or that it does not."""
        return cls({cause: value}) if value is not None else cls(unknown=frozenset({cause}))

    @property
    def total(self) -> float:
        """The sum of what is known."""
        return sum(self.causes.values())

    @property
    def bound(self) -> float | None:
        """The total, or None where somebody does not say."""
        return None if self.unknown else self.total

    def __add__(self, other: Amount) -> Amount:
        causes = Counter(self.causes)
        for cause, value in other.causes.items():
            causes[cause] += value  # type: ignore[assignment]  # a Counter may hold any number
        return Amount(dict(causes), self.unknown | other.unknown)

    def __mul__(self, times: int) -> Amount:
        return Amount({cause: value * times for cause, value in self.causes.items()}, self.unknown)

    def scaled(self, total: float) -> Amount:
        """The same shares of another total; where some are endless, they share it alone."""
        endless = [cause for cause, value in self.causes.items() if math.isinf(value)]
        if endless:
            return Amount({cause: total / len(endless) for cause in endless}, self.unknown)
        mine = self.total
        factor = total / mine if mine else 0.0
        return Amount({cause: value * factor for cause, value in self.causes.items()}, self.unknown)

    def largest(self, most: int = 3) -> list[tuple[str, float]]:
        """The causes that weigh most, the heaviest first."""
        return sorted(self.causes.items(), key=lambda one: -one[1])[:most]


NOTHING = Amount()


def added(amounts: Iterable[Amount]) -> Amount:
    """All of them."""
    return sum(amounts, NOTHING)


def dearest(amounts: Iterable[Amount]) -> Amount:
    """The largest of them, when only one comes true; whoever does not say could be larger."""
    known = list(amounts)
    largest = max(known, key=lambda one: one.total)
    return Amount(largest.causes, frozenset().union(*(one.unknown for one in known)))
