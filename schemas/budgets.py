"""Budgets of tenants, agents and everybody, and what was paid for what."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from schemas.base import Frozen
from schemas.usage import Budget, Usage

Scope = Literal["tenant", "agent", "all"]
Per = Literal["hour", "day", "month"]
"""The window of a budget, as UTC has it."""
By = Literal["workflow", "agent", "model", "tenant", "user"]


class StandingBudget(Frozen):
    """What a tenant, an agent or everybody may consume in a window of time, and has in the one that is open."""

    scope: Scope
    name: str
    """Empty for everybody."""
    per: Per
    budget: Budget
    origin: Literal["operator", "code"]
    """Who has set it: an operator, or the code of the agent."""
    opens_at: datetime
    closes_at: datetime
    """When the next window opens."""
    spent: Usage
    seconds: float
    """Of work."""
    reserved: Usage
    """The most that calls in flight can consume."""
    used: float
    """The largest part of it that was spent: 1 is all of it."""


class Cost(Frozen):
    """What was paid for one workflow, agent, model, tenant or user."""

    key: str
    """Its name; empty for what names none: usage that agents told by themselves has no model."""
    input_tokens: int
    """Of usage that agents told by themselves, all tokens."""
    output_tokens: int
    usd: float
    model_calls: int
