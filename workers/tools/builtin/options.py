"""What every tool can be given when it is made, besides what it may reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from schemas.breakers import Breaker
from schemas.limits import Limit
from schemas.tools import Risk
from workers.tools.declared import Tool

GRACE = 1.0
"""Seconds that a tool which ends by itself in time is left before it is stopped: it says more of what it did."""


class Options(TypedDict, total=False):
    """Those of `workers.tool`."""

    limits: Sequence[Limit]
    breaker: Breaker | None
    cache: float | None
    cache_shared: bool
    risk: Risk
    idempotent: bool
    fallback: Tool | Sequence[Tool]
