"""Accounts of budgets, as people are told of them, and steps that do not begin because one is used up.

A model's call is refused by itself (`orchestrator.engine.reserving`). Other agents tell what they have consumed when it
is gone: what they tell is counted, and once it is as much as a budget allows, none of their steps is begun. A step
whose agent consumes nothing is, for it may give what there is so far. Everything takes time: a budget in seconds lets
only those steps begin which end what was begun, a join say. It is the same for the budgets of runs and of all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.engine.values import Claimed, Pointer
from orchestrator.store import budget_queries as sql
from orchestrator.store.connect import Conn, surveying
from schemas.usage import Bounds, Budget
from schemas.workflows import Debate, Joining, Leaf, Round, Stage

UNITS = {"tokens": "tokens", "usd": "USD", "model_calls": "model calls"}
"""What calls consume, in words."""

DUST = 1e-9
"""Of a sum of dollars in floating point."""


def named(account: str) -> str:
    """An account in words."""
    per, _, whose = account.partition(":")
    if per == "run":
        return f"the budget of run {whose}"
    scope, _, name = whose.partition(":")
    return f"the budget of {scope} {name} per {per}" if name else f"the budget per {per}"


def waited_for(account: str) -> str:
    """What stands in a step that waits for calls in flight to leave something of it."""
    return named(account).removeprefix("the ")


def is_budget(limit: str) -> bool:
    """Whether what stands in a step that waits is a budget."""
    return limit.startswith("budget ")


def told(amount: float) -> str:
    """A figure in words."""
    return f"{amount:,.6f}".rstrip("0").rstrip(".") if isinstance(amount, float) else f"{amount:,}"


def opens(closes_at: datetime | None) -> str:
    """When there is more; nothing is said of a run's own budget."""
    return "" if closes_at is None else f"; it opens again at {closes_at:%Y-%m-%d %H:%M} UTC"


def put_budget(conn: Conn, scope: str, name: str, per: str, budget: Budget, origin: str) -> None:
    """Set a budget. A new one has spent what its window has cost so far, but for seconds of work, which count from now.

    What an operator has set stands, whatever the code of an agent says.
    """
    terms = budget.model_dump_json(exclude_none=True)
    keys = {"scope": scope, "name": name, "per": per, "terms": terms, "origin": origin}
    with conn.transaction():
        if conn.execute(sql.PUT_BUDGET, keys).fetchone() == (True,):
            conn.execute(sql.HOLD_COSTS)
            with surveying(conn):
                conn.execute(sql.COUNT_BEFORE, {"account": f"{per}:{scope}:{name}"})


def used_up(conn: Conn, begun: Sequence[Claimed]) -> dict[Pointer, str]:
    """Those of these steps that are not to be begun, and why.

    One of which something stands in its journal goes on with that: its next call is judged by itself.
    """
    steps = {Pointer(one.run.id, one.path): one for one in begun}
    keys = {"runs": [run for run, _ in steps], "paths": [path for _, path in steps]}
    reasons: dict[Pointer, str] = {}
    for run, path, account, terms, closes_at, tells, *figures in conn.execute(
        sql.SELECT_USED_UP, keys
    ).fetchall():
        step = steps[Pointer(run, path)]
        spent = dict(zip((*UNITS, "seconds"), figures, strict=True))
        consumes = tells or _consumes(step)
        works = consumes or not _ends_what_was_begun(step)
        why = reason(Budget.model_validate(terms), spent, consumes=consumes, works=works)
        if why:
            reasons.setdefault(Pointer(run, path), f"{named(account)} is used up: {why}{opens(closes_at)}")
    return reasons


def reason(terms: Budget, spent: Mapping[str, Any], *, consumes: bool = True, works: bool = True) -> str:
    """What of it is used up, in words, for a step that consumes or takes time that counts; empty if nothing is."""
    for unit, word in UNITS.items():
        limit = getattr(terms, unit)
        if consumes and limit is not None and spent[unit] >= limit - DUST:
            return f"{told(spent[unit])} of {told(limit)} {word}"
    if works and terms.seconds is not None and spent["seconds"] >= terms.seconds:
        return f"{spent['seconds']:.1f} of {terms.seconds:g} seconds"
    return ""


def _consumes(claimed: Claimed) -> bool:
    """Whether its agent says that it consumes anything."""
    node = claimed.run.plan.at(claimed.path).node
    assert isinstance(node, Leaf)  # noqa: S101  only agents are claimed
    said = claimed.run.plan.workflow.agents[node.agent].bounds or Bounds()
    return bool(said.tokens or said.usd or said.model_calls)


def _ends_what_was_begun(claimed: Claimed) -> bool:
    """Whether it makes one result of what others have come to, or stands in for one of them: a single step."""
    above, _, segment = claimed.path.rpartition("/")
    match claimed.run.plan.at(above).node if above else None:
        case Joining():
            return segment == "join"
        case Stage():
            return segment == "else"
        case Round():
            return segment == "review"
        case Debate():
            return segment == "judge"
    return False
