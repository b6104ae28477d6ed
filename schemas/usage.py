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


class Budget(Frozen):
    """What a run may consume; `None` sets no limit."""

    tokens: int | None = Field(default=None, gt=0)
    usd: float | None = Field(default=None, gt=0)
    model_calls: int | None = Field(default=None, gt=0)


class Bounds(Frozen):
    """The most that one attempt of an agent consumes, as far as its author vouches for it; `None` is not known."""

    model_calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)


class Price(Frozen):
    """What a model costs, in US dollars for a million tokens. A model of one's own costs `Price(input=0, output=0)`."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """What a call costs, in US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / 1_000_000
