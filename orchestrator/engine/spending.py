"""Tells of budgets that are used up, or nearly: once each, so that steps that are not begun surprise nobody."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestrator.engine.accounts import UNITS, named, opens, reason
from orchestrator.store import spending_queries as sql
from orchestrator.store.connect import AnyConn
from schemas.usage import Budget

log = logging.getLogger(__name__)


def warn(conn: AnyConn, accounts: Collection[str], runs: Sequence[UUID]) -> None:
    """Tell of accounts of which 80 % are used up, and of those of which all is, once each in each window.

    A run's own is told of in its story, others in that of one of these that counts in it. A run that has ended is told
    nothing: who ends runs tells before that.
    """
    if not accounts:
        return
    rows = conn.execute(sql.SELECT_NEARLY_SPENT, {"accounts": sorted(accounts)}).fetchall()
    if not rows:
        return
    warned = {
        "accounts": [account for account, *_ in rows],
        "opens": [opens_at for _, opens_at, *_ in rows],
        "levels": [level for *_, level, _, _, _, _ in rows],
        "used": [float(used) for _, _, _, _, used, *_ in rows],
        "messages": [_message(*row) for row in rows],
        "runs": [*runs, *(UUID(account[4:]) for account, *_ in rows if account.startswith("run:"))],
    }
    for (message,) in conn.execute(sql.WARN, warned).fetchall():
        log.warning(message)


def _message(
    account: str,
    _: datetime,
    closes_at: datetime | None,
    terms: Mapping[str, Any],
    used: float,
    level: int,
    *figures: float,
) -> str:
    if level < 100:
        return f"{math.floor(100 * used)} % of {named(account)} are used up"
    spent = dict(zip((*UNITS, "seconds"), figures, strict=True))
    why = reason(Budget.model_validate(terms), spent)
    return f"{named(account)} is used up: {why}{opens(closes_at)}; what consumes more of it is not begun"
