"""Budgets before a call of a model, and before an attempt that tells at its end: the most it can cost is set aside.

It is let through when what was spent, what is set aside for calls in flight, and its own worst case fit into every
budget that it counts in: of its run and the runs that wait for that one, of its tenant, its agent, and everybody. So
branches that run at the same time cannot exceed a budget together, as far as the worst case is one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine.accounts import DUST, UNITS, named, opens, put_budget, told, waited_for
from orchestrator.engine.limits import GRACE
from orchestrator.engine.patience import patiently
from orchestrator.engine.settling import Lapsed, Settling, lapse
from orchestrator.engine.spending import warn
from orchestrator.engine.values import NOTHING
from orchestrator.store import budget_queries as sql
from orchestrator.store import settling_queries
from orchestrator.store.connect import Conn
from schemas.usage import MOST, Budget, Usage

NEVER_FITS = "never fits"
"""Stands in the refusal of what is more than the whole budget: to ask again does not help."""


class Wish(NamedTuple):
    """A call that is about to be made, or an attempt that is about to begin."""

    id: UUID
    run_id: UUID
    path: str
    attempt: int
    agent: str
    name: str
    """The model that is called; empty for an attempt as a whole."""
    worst: Usage
    least: Usage = NOTHING
    """What it has cost if nobody tells of its end. Of an attempt that is not known."""

    @property
    def told(self) -> str:
        """That it was refused."""
        return f"{self.name} was not called" if self.name else f"{self.agent} was not begun"

    @property
    def mend(self) -> str:
        """What helps where it is more than the whole budget."""
        less = "a smaller max_tokens in its settings" if self.name else "smaller bounds"
        return f"; it {NEVER_FITS}: give the budget more, or it {less}"


class Granted(NamedTuple):
    """It may be made."""


class Busy(NamedTuple):
    """It does not fit beside calls in flight; when these have ended it may."""

    budget: str
    """The one that it waits for."""
    waiting: int = 0
    """Steps that wait for it in Postgres."""


class Exceeded(NamedTuple):
    """It does not fit into what is left of a budget."""

    reason: str


class Over(NamedTuple):
    """Its attempt is over: another one may go on with its step."""

    attempt: int


Answer = Granted | Busy | Exceeded | Over


@dataclass
class _Book:
    """One account, as it stands in this transaction."""

    account: str
    terms: Budget
    closes_at: datetime | None
    spent: dict[str, float]
    reserved: dict[str, float] = field(default_factory=dict)

    def judge(self, wish: Wish) -> Answer:
        if self.terms.seconds is not None and self.spent["seconds"] >= self.terms.seconds:
            used = f"{self.spent['seconds']:.1f} of {self.terms.seconds:g} seconds"
            return Exceeded(f"{named(self.account)} is used up: {used}{opens(self.closes_at)}")
        answer: Answer = Granted()
        for unit, word in UNITS.items():
            limit, wanted = getattr(self.terms, unit), getattr(wish.worst, unit)
            if limit is None:
                continue
            left = limit - self.spent[unit]
            if left <= DUST or wanted > left + DUST:
                mend = wish.mend if wanted > limit + DUST else ""
                return Exceeded(
                    f"{wish.told}: it may consume {told(wanted)} {word}, and {told(max(left, 0))} of "
                    f"{told(limit)} are left of {named(self.account)}"
                    f"{mend or opens(self.closes_at)}"
                )
            if wanted > left - self.reserved[unit] + DUST:
                answer = Busy(waited_for(self.account))
        return answer

    def take(self, worst: Usage) -> None:
        for unit in UNITS:
            self.reserved[unit] += getattr(worst, unit)


class Reserving(Settling):
    """Reserves."""

    @patiently
    def declare_budget(self, agent: str, budget: Budget) -> None:
        """What the code of an agent says that it may consume in a day; what an operator has set stands."""
        with self.pool.connection() as conn:
            put_budget(conn, "agent", agent, "day", budget, "code")

    @patiently
    def reserve(self, wishes: Sequence[Wish]) -> list[Answer]:
        """Set aside what these calls can cost, each in all of its budgets or in none; the first ones first."""
        with self.pool.connection() as conn:
            terms, wanted = _accounts(conn, wishes)
            if not terms:
                return [Granted() for _ in wishes]
            with conn.transaction():
                keys = {"accounts": sorted(terms)}
                conn.execute(sql.TAKE_ACCOUNTS, keys)
                over, lapsed = _over(conn, wishes), Lapsed()
                answers = _answers(wishes, wanted, _books(conn, wishes, terms), over)
                # What attempts that are over have set aside is in nobody's way else.
                if any(isinstance(one, Busy) for one in answers):
                    lapsed = lapse(conn, settling_queries.LAPSE_ACCOUNTS, keys)
                    if lapsed.freed:
                        answers = _answers(wishes, wanted, _books(conn, wishes, terms), over)
                granted = [one for one, answer in zip(wishes, answers, strict=True) if answer == Granted()]
                if refused := {one.id for one in wishes} - {one.id for one in granted}:
                    # Whoever asks once more, for the answer was lost, may have been let through then.
                    conn.execute(settling_queries.DELETE_RESERVATIONS, {"ids": sorted(refused)})
                conn.execute(sql.INSERT_RESERVATIONS, _reservations(granted, wanted))
            warn(conn, lapsed.spent, lapsed.runs)
            return _with_company(conn, answers)


def _accounts(conn: Conn, wishes: Sequence[Wish]) -> tuple[dict[str, Budget], dict[UUID, list[str]]]:
    """The budgets that these calls count in, and by call which."""
    columns = {
        "ids": [one.id for one in wishes],
        "runs": [one.run_id for one in wishes],
        "agents": [one.agent for one in wishes],
    }
    terms: dict[str, Budget] = {}
    wanted: defaultdict[UUID, list[str]] = defaultdict(list)
    for call, account, said in conn.execute(sql.SELECT_ACCOUNTS, columns).fetchall():
        terms[account] = Budget.model_validate(said)
        wanted[call].append(account)
    return terms, wanted


def _books(conn: Conn, wishes: Sequence[Wish], terms: Mapping[str, Budget]) -> dict[str, _Book]:
    """The accounts as they stand, by whoever holds them."""
    keys = {"accounts": sorted(terms), "ids": [one.id for one in wishes]}
    rows = conn.execute(sql.SELECT_BOOKS, keys).fetchall()
    return {
        account: _Book(
            account,
            terms[account],
            closes_at,
            dict(zip((*UNITS, "seconds"), figures[:4], strict=True)),
            dict(zip(UNITS, figures[4:], strict=True)),
        )
        for account, closes_at, *figures in rows
    }


def _over(conn: Conn, wishes: Sequence[Wish]) -> set[UUID]:
    """Those whose attempts were taken back, or have ended."""
    columns = {
        "ids": [one.id for one in wishes],
        "runs": [one.run_id for one in wishes],
        "paths": [one.path for one in wishes],
        "attempts": [one.attempt for one in wishes],
        "grace": GRACE,
    }
    return {call for (call,) in conn.execute(sql.SELECT_OVER, columns).fetchall()}


def _answers(
    wishes: Sequence[Wish], wanted: Mapping[UUID, Sequence[str]], books: Mapping[str, _Book], over: set[UUID]
) -> list[Answer]:
    return [
        Over(one.attempt) if one.id in over else _answer(one, [books[account] for account in wanted[one.id]])
        for one in wishes
    ]


def _with_company(conn: Conn, answers: list[Answer]) -> list[Answer]:
    """The same, with how many wait already for what somebody has to wait for."""
    keys = sorted({one.budget for one in answers if isinstance(one, Busy)})
    if not keys:
        return answers
    waiting: dict[str, int] = dict(conn.execute(settling_queries.COUNT_WAITERS, {"keys": keys}).fetchall())
    return [
        one._replace(waiting=waiting.get(one.budget, 0)) if isinstance(one, Busy) else one for one in answers
    ]


def _answer(wish: Wish, books: Sequence[_Book]) -> Answer:
    """Reserve in all of these, or in none: that it cannot fit says more than that it does not fit now."""
    answers = [book.judge(wish) for book in books]
    for kind in (Exceeded, Busy):
        for answer in answers:
            if isinstance(answer, kind):
                return answer
    for book in books:
        book.take(wish.worst)
    return Granted()


def _reservations(granted: Sequence[Wish], wanted: Mapping[UUID, Sequence[str]]) -> dict[str, list[Any]]:
    rows = [(one, account) for one in granted for account in wanted[one.id]]
    return {
        "ids": [one.id for one, _ in rows],
        "accounts": [account for _, account in rows],
        "runs": [one.run_id for one, _ in rows],
        "paths": [one.path for one, _ in rows],
        "attempts": [one.attempt for one, _ in rows],
        "tokens": [min(one.worst.tokens, MOST) for one, _ in rows],
        "usds": [min(one.worst.usd, MOST) for one, _ in rows],
        "calls": [min(one.worst.model_calls, MOST) for one, _ in rows],
        "agents": [one.agent for one, _ in rows],
        "models": [one.name for one, _ in rows],
        "least_tokens": [min(one.least.tokens, MOST) for one, _ in rows],
        "least_usds": [min(one.least.usd, MOST) for one, _ in rows],
        "least_calls": [min(one.least.model_calls, MOST) for one, _ in rows],
    }
