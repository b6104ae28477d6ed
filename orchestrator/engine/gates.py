"""What lets attempts of agents and calls of tools and models through: a gate for each limit, per tenant or key too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from orchestrator.definitions.conditions import ConditionError, result
from orchestrator.masking.masker import as_key
from schemas.limits import Limit

APART = 0.02
"""Seconds between a look and the next one at least."""


class Pace(NamedTuple):
    """How often those look again who wait, in seconds."""

    look: float
    """Between two looks for a place, if nobody tells that one is free: its holder may have died."""
    apart: float
    """Between those of many that look for a place."""
    longest: float
    """After which anybody looks again, wherever it stands in line: those before it may be gone."""


ATTEMPTS = Pace(look=1.0, apart=APART, longest=60.0)
CALLS = Pace(look=5.0, apart=0.25, longest=300.0)
"""A call is looked at by an attempt of its step, which costs more than to claim one."""

LONG = 120
"""Characters of a value that stand in the name of its gate."""


class Bar(NamedTuple):
    """One gate as its agent declares it: so many at a time, or so many seconds apart."""

    key: str
    most: int
    """At a time, or at once."""
    interval: float | None
    """Seconds between two starts; None for a gate that counts what runs."""


@dataclass
class GateRow:
    """A gate as a claim that holds its row finds it, and leaves it."""

    bar: Bar
    now: datetime
    free_at: datetime
    held: int
    crowded: bool
    """Whether it would be somebody else's turn, who has waited."""
    last_due: datetime | None
    """When the last of those that wait looks again."""

    def opens(self, waited: bool) -> bool:
        """Whether one more may start now."""
        if self.crowded and not waited:
            return False
        if self.bar.interval is None:
            return self.held < self.bar.most
        return self.now >= self._earliest()

    def take(self) -> None:
        """Count one more."""
        self.held += 1
        if self.bar.interval is not None:
            self.free_at = max(self.free_at, self.now) + timedelta(seconds=self.bar.interval)

    def promise(self, pace: Pace = ATTEMPTS) -> datetime:
        """When one more should look again."""
        if self.bar.interval is None:
            apart, first = timedelta(seconds=pace.apart), self.now + timedelta(seconds=pace.look)
        else:
            apart = timedelta(seconds=self.bar.interval)
            first = max(self._earliest(), self.now + timedelta(seconds=APART))
        due = first if self.last_due is None else max(first, self.last_due + apart)
        due = min(due, self.now + timedelta(seconds=pace.longest))
        self.last_due = due if self.last_due is None else max(due, self.last_due)
        return due

    def _earliest(self) -> datetime:
        assert self.bar.interval is not None  # noqa: S101  it is a rate's
        return self.free_at - timedelta(seconds=(self.bar.most - 1) * self.bar.interval)


def bars(
    whose: str, limits: Sequence[Limit], tenant: str, value: str | None, kind: Literal["steps", "calls"]
) -> Iterator[Bar]:
    """The gates before a step of this agent, or a call of what is named so (`tool search`, `model openai:gpt-5-mini`).

    `value` is the input as JSON text, where a limit looks into it. Steps and calls are never counted together: a step
    that held the last place would wait for itself.
    """
    for limit in limits:
        all_of_them = whose if limit.name is None else f"{kind} under {limit.name}"
        counted = f"{all_of_them}{_part(limit, tenant, value)}"
        if limit.concurrency is not None:
            yield Bar(f"concurrency of {counted}", limit.concurrency, None)
        if limit.rate is not None:
            yield Bar(f"rate {limit.rate} of {counted}", limit.burst, limit.interval)


def _part(limit: Limit, tenant: str, value: str | None) -> str:
    match limit.per:
        case "agent":
            return ""
        case "tenant":
            return f" for tenant {_short(json.dumps(tenant))}"
    assert limit.key is not None  # noqa: S101  the model says so
    return f" for tenant {_short(json.dumps(tenant))}, {limit.key} = {_short(_told(limit.key, value))}"


def _told(key: str, value: str | None) -> str:
    """What the key is in this input. One that cannot be told is a key like another."""
    try:
        return json.dumps(result(key, {"input": json.loads(value or "null")}), sort_keys=True, default=str)
    except ConditionError:
        return "?"


def _short(text: str) -> str:
    text = as_key(text)
    if len(text) <= LONG:
        return text
    return f"{text[:LONG]}… {hashlib.sha256(text.encode()).hexdigest()}"
