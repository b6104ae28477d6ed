"""Budgets of tenants, agents and everybody, as operators set and see them."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError

from orchestrator.engine.accounts import DUST, put_budget
from orchestrator.engine.limits import GRACE
from orchestrator.store import budget_queries as sql
from orchestrator.store.connect import Conn, Pool
from orchestrator.store.refusals import translated
from schemas.budgets import Per, Scope, StandingBudget
from schemas.errors import Fault, InputError, NotFound
from schemas.usage import Budget, Usage

_PARTS = ("tokens", "usd", "model_calls")


class StandingBudgets:
    """Sets, shows and removes them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @translated()
    def put(self, scope: Scope, name: str, budget: Budget, *, per: Per = "day") -> StandingBudget:
        """Set what a tenant, an agent or everybody (`all`, without a name) may consume in an hour, a day or a month.

        It holds from the next model call on; what was paid for in the window before counts, and seconds of work count
        from then on. Raises `InputError`, `Unavailable`.
        """
        _check(scope, name, budget, per)
        with self._pool.connection() as conn:
            put_budget(conn, scope, name, per, budget, "operator")
            (found,) = _read(conn, f"{per}:{scope}:{name}")
        return found

    @translated()
    def remove(self, scope: Scope, name: str, *, per: Per = "day") -> None:
        """Forget a budget; one that the code of an agent declares comes back with its next worker.

        Raises `NotFound`, `Unavailable`.
        """
        with self._pool.connection() as conn:
            gone = conn.execute(sql.DELETE_BUDGET, {"account": f"{per}:{scope}:{name}"}).fetchone()
        if gone is None:
            raise NotFound(
                f"there is no budget of {scope} {name}".rstrip() + f" per {per}", next_step="baton budgets ls"
            )

    @translated()
    def agents(self) -> set[str]:
        """The agents of all workflows that were ever submitted here. Raises `Unavailable`."""
        with self._pool.connection() as conn:
            return {name for (name,) in conn.execute(sql.SELECT_AGENTS).fetchall()}

    @translated()
    def all(self) -> list[StandingBudget]:
        """Every budget that is not of a run, with its open window. Raises `Unavailable`."""
        with self._pool.connection() as conn:
            return _read(conn, None)


def _check(scope: str, name: str, budget: Budget, per: str) -> None:
    faults = []
    if scope not in get_args(Scope):
        faults.append(Fault("scope", "it is tenant, agent or all"))
    elif (scope == "all") == bool(name):
        faults.append(Fault("name", "a tenant or an agent has one, `all` has none"))
    if "\0" in name:
        faults.append(Fault("name", "it has no NUL characters"))
    if per not in get_args(Per):
        faults.append(Fault("per", "it is hour, day or month"))
    if budget == Budget():
        faults.append(Fault("", "say how much: usd, tokens, model_calls or seconds"))
    if faults:
        raise InputError("A budget", faults)


def _read(conn: Conn, account: str | None) -> list[StandingBudget]:
    rows = conn.execute(sql.SELECT_BUDGETS, {"account": account}).fetchall()
    names = [row[0] for row in rows]
    books = conn.execute(sql.SHOW_BOOKS, {"accounts": names, "grace": GRACE}).fetchall() if names else []
    figures = {account: rest for account, *rest in books}
    return [_shown(*row[1:], *figures[row[0]]) for row in rows]


def _shown(
    scope: Any, name: str, per: Any, terms: Any, origin: Any, opens_at: Any, closes_at: Any, *figures: Any
) -> StandingBudget:
    budget = Budget.model_validate(terms)
    *spent, seconds = figures[:4]
    gone = dict(zip((*_PARTS, "seconds"), figures[:4], strict=True))
    limits = {part: getattr(budget, part) for part in gone}
    return StandingBudget(
        scope=scope,
        name=name,
        per=per,
        budget=budget,
        origin=origin,
        opens_at=opens_at,
        closes_at=closes_at,
        spent=Usage.model_validate(dict(zip(_PARTS, spent, strict=True))),
        seconds=seconds,
        reserved=Usage.model_validate(dict(zip(_PARTS, figures[4:], strict=True))),
        used=max(gone[part] / max(limit, DUST) for part, limit in limits.items() if limit is not None),
    )


def budget_of(**parts: float | None) -> Budget:
    """A budget from what somebody typed. Raises `InputError`."""
    try:
        return Budget.model_validate(parts)
    except ValidationError as error:
        faults = [Fault(str(one["loc"][0]), one["msg"]) for one in error.errors()]
        raise InputError("A budget", faults) from None
