"""What work consumed."""

from __future__ import annotations

from pydantic import Field

from schemas.base import Frozen

MOST = 10**12
"""Tokens, US dollars or calls that one attempt can have consumed: sums of them stay within 64 bits."""


class Usage(Frozen):
    """Consumption of one attempt, or a sum of many."""

    tokens: int = Field(default=0, ge=0)
    """Input and output tokens together."""
    usd: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """US dollars."""
    model_calls: int = Field(default=0, ge=0)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            tokens=self.tokens + other.tokens,
            usd=self.usd + other.usd,
            model_calls=self.model_calls + other.model_calls,
        )

    def beyond(self, other: Usage) -> Usage:
        """What is consumed here and not in `other`, which is a part of it."""
        return Usage(
            tokens=max(0, self.tokens - other.tokens),
            usd=max(0.0, round(self.usd - other.usd, 12)),
            model_calls=max(0, self.model_calls - other.model_calls),
        )


class Budget(Frozen):
    """What may be consumed, by a run or in a window of time; `None` sets no limit."""

    tokens: int | None = Field(default=None, gt=0)
    usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    model_calls: int | None = Field(default=None, gt=0)
    seconds: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, exclude_if=lambda seconds: seconds is None
    )
    """Seconds of work: how long attempts have run, from claim to outcome, added up as each of them ends, so that two
    at a time count twice. Waiting (in a queue, for people, for retries) is none; a run's `timeout` is wall time."""


class Bounds(Frozen):
    """The most that one attempt of an agent consumes, as far as its author vouches for it; `None` is not known.

    Budgets set it aside before an attempt begins that tells what it consumes when it ends.
    """

    model_calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @property
    def known(self) -> Usage:
        """As far as it is known."""
        return Usage(tokens=self.tokens or 0, usd=self.usd or 0.0, model_calls=self.model_calls or 0)

    def exceeded(self, usage: Usage) -> str:
        """What of this an attempt has consumed more of than it says, in words; empty if nothing."""
        for unit in ("tokens", "usd", "model_calls"):
            most, used = getattr(self, unit), getattr(usage, unit)
            if most is not None and used > most + 1e-9:
                return f"{used:,} {unit.replace('_', ' ')}, and declares {most:,} at most"
        return ""


class Price(Frozen):
    """What a model costs, in US dollars for a million tokens. A model of one's own costs `Price(input=0, output=0)`."""

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """What a call costs, in US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / 1_000_000
