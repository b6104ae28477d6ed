"""Refuses a run whose worst case exceeds what it may consume: before it starts, not when the money is gone."""

from __future__ import annotations

import math
from collections.abc import Iterator

from orchestrator.planning.amounts import Amount
from orchestrator.planning.bounds import bounds
from schemas.errors import BudgetTooSmall
from schemas.tree import agents_of
from schemas.usage import Bounds
from schemas.workflows import Workflow

_NAMED = 3
"""Causes that a refusal names."""


def refuse_excess(workflow: Workflow) -> None:
    """Raises `BudgetTooSmall`, naming every bound that is exceeded or not known, and what weighs most in it."""
    found = list(excesses(workflow))
    if found:
        raise BudgetTooSmall(
            f"Workflow {workflow.name!r} may not start strictly: {'; '.join(found)}.",
            next_step=f"baton plan {workflow.name}, then raise the budget, lower the bounds, or start it without "
            "strict",
        )


def excesses(workflow: Workflow) -> Iterator[str]:
    """Each bound that exceeds the budget or the timeout of a run, or that nobody knows although it is limited."""
    worst, budget = bounds(workflow), workflow.budget
    limited = (
        ("model calls", worst.model_calls, budget.model_calls),
        ("tokens", worst.tokens, budget.tokens),
        ("USD", worst.usd, budget.usd),
    )
    for unit, amount, limit in limited:
        if limit is not None:
            yield from _excess(unit, amount, limit, "the budget")
    if workflow.timeout is not None:
        yield from _excess("seconds", worst.time, workflow.timeout, "the timeout")


def unheld(workflow: Workflow) -> list[str]:
    """Agents under a budget that do not say beforehand what an attempt consumes: nothing is set aside for them."""
    budget = workflow.budget
    if budget.model_calls is None and budget.tokens is None and budget.usd is None:
        return []
    return sorted(name for name, agent in agents_of(workflow).items() if agent.bounds in (None, Bounds()))


def _excess(unit: str, amount: Amount, limit: float, what: str) -> Iterator[str]:
    if amount.total > limit:
        causes = ", ".join(f"{cause} {_number(value)}" for cause, value in amount.largest(_NAMED) if value)
        yield f"it can take {_number(amount.total)} {unit}, and {what} is {_number(limit)} (most: {causes})"
    elif amount.unknown:
        silent = sorted(amount.unknown)
        more = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
        yield (
            f"nobody knows how many {unit} it can take, and {what} is {_number(limit)}: "
            f"{', '.join(silent[:_NAMED])}{more} declare{'s' if len(silent) == 1 else ''} no bounds"
        )


def _number(value: float) -> str:
    if math.isinf(value):
        return "endlessly many"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.4g}"
