"""What is left of a run's budget, where a pattern decides whether to ask for more."""

from __future__ import annotations

import json

from orchestrator.engine.moves import Moves
from orchestrator.engine.values import RunRef, error_text
from schemas.usage import Budget, Usage


def spent(moves: Moves, run: RunRef) -> Usage:
    """What the run has consumed; not looked up where nothing limits it."""
    return moves.spent(run).usage if run.plan.workflow.budget != Budget() else Usage()


def shortage(budget: Budget, spent: Usage, promised: Usage, cost: Usage) -> str:
    """What there is too little of for this cost, beside what is promised to others; empty if there is enough."""
    for name in ("tokens", "usd", "model_calls"):
        limit, gone = getattr(budget, name), getattr(spent, name)
        taken = gone + getattr(promised, name)
        if limit is not None and (gone >= limit or taken + getattr(cost, name) > limit):
            return f"over budget: {round(max(limit - taken, 0), 6)} of {limit} {name} are left"
    return ""


def used_up(moves: Moves, run: RunRef) -> str:
    """Which part of its budget a run has used up; empty if none."""
    budget = run.plan.workflow.budget
    if budget == Budget():
        return ""
    usage, seconds = moves.spent(run)
    if budget.seconds is not None and seconds >= budget.seconds:
        return f"over budget: 0 of {budget.seconds:g} seconds are left"
    return shortage(budget, usage, Usage(), Usage())


def short(reason: str) -> str:
    """That a budget ended something before its time, as an error."""
    return error_text("BudgetExceeded", reason)


def was_short(error: str | None) -> bool:
    """Whether this is why something failed."""
    return error is not None and json.loads(error).get("type") == "BudgetExceeded"
