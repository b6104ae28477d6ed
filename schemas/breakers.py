"""When an agent, a tool or a model that keeps failing is left alone for a while."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.base import Frozen


class Breaker(Frozen):
    """A circuit breaker of all workers together.

    It opens when too much has failed, and nothing is tried while it is open. Then it is half open: one try is made, a
    probe, and what comes of that closes it or opens it again.
    """

    failures: float = Field(default=0.5, gt=0, le=1)
    """The share of failures with which it opens."""
    window: float = Field(default=60.0, ge=0.1, le=86_400)
    """Seconds within which they are counted."""
    minimum: int = Field(default=10, ge=1, le=1_000_000)
    """Ends within the window without which it does not open."""
    open: float = Field(default=30.0, ge=0.1, le=86_400)
    """Seconds for which it stays open."""


CircuitState = Literal["closed", "open", "half-open"]


class CircuitView(Frozen):
    """A circuit as it stands."""

    name: str
    """`agent NAME`, `tool NAME` or `model PROVIDER:NAME`."""
    state: CircuitState
    failed: int
    """Ends within the window that were failures; of one that is open, those with which it has opened."""
    ended: int
    """All those ends."""
    open_for: float
    """Seconds until it is half open."""
    probing: bool
    """Whether a probe is under way."""
    breaker: Breaker
