"""What is wrong with declared limits and budgets."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.definitions.conditions import fault
from schemas.errors import Fault
from schemas.limits import Limit
from schemas.usage import Budget


def limit_faults(limits: Sequence[Limit], where: str = "limits") -> list[Fault]:
    """Keys that are no expressions, and two limits of which only one could be meant."""
    if isinstance(limits, Limit):
        return [Fault(where, "write a list: [Limit(...)]")]
    if not isinstance(limits, list | tuple) or not all(isinstance(one, Limit) for one in limits):
        return [Fault(where, f"it is a list of Limit(...), not {limits!r}")]
    faults = []
    seen = set()
    for index, limit in enumerate(limits):
        said = fault(limit.key, ["input"]) if limit.key is not None else None
        if said is not None:
            faults.append(Fault(f"{where}/{index}", said))
        for what in ("concurrency", "rate"):
            mark = (what, limit.name, limit.per, limit.key, limit.rate if what == "rate" else None)
            if getattr(limit, what) is not None and mark in seen:
                faults.append(Fault(f"{where}/{index}", f"its {what} is limited twice per {limit.per}"))
            seen.add(mark)
    return faults


def budget_faults(budget: Budget | None) -> list[Fault]:
    """What is no budget, or one that limits nothing."""
    if budget is not None and not isinstance(budget, Budget):
        return [Fault("budget", f"it is Budget(usd=...), not {budget!r}")]
    if budget == Budget():
        return [Fault("budget", "say how much: usd, tokens, model_calls or seconds")]
    return []
