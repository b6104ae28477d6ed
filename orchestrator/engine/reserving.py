"""Budgets before and after a call of a model: the most it can cost is set aside, and what it did cost is counted.

A call is let through when what was spent, what is set aside for calls in flight, and its own worst case fit into every
budget that it counts in: of its run and the runs that wait for that one, of its tenant, its agent, and everybody. So
branches that run at the same time cannot exceed a budget together, as far as the worst case is one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine.accounts import DUST, UNITS, named, opens, put_budget, told, waited_for
from orchestrator.engine.ground import Ground
from orchestrator.engine.limits import GRACE
from orchestrator.engine.patience import patiently
from orchestrator.engine.spending import warn
from orchestrator.engine.values import Ready
from orchestrator.store import budget_queries as sql
from orchestrator.store.connect import Conn
from schemas.usage import MOST, Budget, Usage


class Wish(NamedTuple):
    """A call that is about to be made."""

    id: UUID
    run_id: UUID
    path: str
    attempt: int
    agent: str
    name: str
    """What is called."""
    worst: Usage


class Granted(NamedTuple):
    """It may be made."""


class Busy(NamedTuple):
    """It does not fit beside calls in flight; when these have ended it may."""

    budget: str
    """The one that it waits for."""


class Exceeded(NamedTuple):
    """It does not fit into what is left of a budget."""

    reason: str


class Over(NamedTuple):
    """Its attempt is over: another one may go on with its step."""

    attempt: int


Answer = Granted | Busy | Exceeded | Over


class Paid(NamedTuple):
    """A call that has ended well."""

    id: UUID
    run_id: UUID
    path: str
    attempt: int
    agent: str
    model: str
    usage: Usage
    output_tokens: int


class Rest(NamedTuple):
    """What an attempt has consumed besides its calls."""

    run_id: UUID
    path: str
    attempt: int
    usage: Usage


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
                return Exceeded(
                    f"{wish.name} was not called: it may consume {told(wanted)} {word}, and {told(max(left, 0))} of "
                    f"{told(limit)} are left of {named(self.account)}{opens(self.closes_at)}"
                )
            if wanted > left - self.reserved[unit] + DUST:
                answer = Busy(waited_for(self.account))
        return answer

    def take(self, worst: Usage) -> None:
        for unit in UNITS:
            self.reserved[unit] += getattr(worst, unit)


class Reserving(Ground):
    """Reserves and settles."""

    @patiently
    def release_calls(self, calls: Sequence[UUID]) -> list[Ready]:
        """Of calls that came to nothing: nothing is set aside for them any more; the steps that may ask instead."""
        with self.pool.connection() as conn:
            freed = conn.execute(sql.DELETE_RESERVATIONS, {"ids": calls}).fetchall()
            return self._wake_waiters([account for (account,) in freed], conn)

    @patiently
    def declare_budget(self, agent: str, budget: Budget) -> None:
        """What the code of an agent says that it may consume in a day; what an operator has set stands."""
        with self.pool.connection() as conn:
            put_budget(conn, "agent", agent, "day", budget, "code")

    def count_rest(self, conn: Conn, rests: Sequence[Rest]) -> list[str]:
        """Count what attempts told besides their calls, in the transaction that records them; the accounts it is in."""
        columns = {
            "runs": [one.run_id for one in rests],
            "paths": [one.path for one in rests],
            "attempts": [one.attempt for one in rests],
            "tokens": [one.usage.tokens for one in rests],
            "usds": [one.usage.usd for one in rests],
            "calls": [one.usage.model_calls for one in rests],
        }
        return [account for (account,) in conn.execute(sql.COUNT_THE_REST, columns).fetchall()]

    @patiently
    def reserve(self, wishes: Sequence[Wish]) -> list[Answer]:
        """Set aside what these calls can cost, each in all of its budgets or in none; the first ones first."""
        with self.pool.connection() as conn:
            terms, wanted = _accounts(conn, wishes)
            if not terms:
                return [Granted() for _ in wishes]
            with conn.transaction():
                books = _books(conn, wishes, terms)
                over = _over(conn, wishes)
                answers = [
                    Over(one.attempt)
                    if one.id in over
                    else _answer(one, [books[account] for account in wanted[one.id]])
                    for one in wishes
                ]
                granted = [one for one, answer in zip(wishes, answers, strict=True) if answer == Granted()]
                conn.execute(sql.INSERT_RESERVATIONS, _reservations(granted, wanted))
        return answers

    @patiently
    def settle_calls(self, paid: Sequence[Paid]) -> list[Ready]:
        """Count what calls have cost, each once however often it is told; the steps that waited for them to end."""
        columns = {
            "ids": [one.id for one in paid],
            "runs": [one.run_id for one in paid],
            "paths": [one.path for one in paid],
            "attempts": [one.attempt for one in paid],
            "agents": [one.agent for one in paid],
            "models": [one.model for one in paid],
            "tokens": [min(one.usage.tokens, MOST) for one in paid],
            "outputs": [min(one.output_tokens, MOST) for one in paid],
            "usds": [min(one.usage.usd, MOST) for one in paid],
            "calls": [one.usage.model_calls for one in paid],
        }
        with self.pool.connection() as conn:
            rows = conn.execute(sql.SETTLE, columns).fetchall()
            # Now that it is committed: of several who settle at a time, the last one sees all.
            warn(conn, [account for account, freed in rows if not freed], [one.run_id for one in paid])
            return self._wake_waiters([account for account, freed in rows if freed], conn)

    def _wake_waiters(self, freed: Sequence[str], conn: Conn) -> list[Ready]:
        """Those that wait for these accounts, one for each call that has ended."""
        if not freed:
            return []
        ended = Counter(waited_for(account) for account in freed)
        keys = {"keys": sorted(ended), "most": [ended[key] for key in sorted(ended)]}
        return self.located(conn, conn.execute(sql.WAKE_WAITERS, keys).fetchall())


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
    """The accounts as they stand, held to the end of the transaction."""
    keys = {"accounts": sorted(terms)}
    conn.execute(sql.TAKE_ACCOUNTS, keys)
    conn.execute(sql.DROP_ENDED_RESERVATIONS, keys | {"grace": GRACE})
    rows = conn.execute(sql.SELECT_BOOKS, keys | {"ids": [one.id for one in wishes]}).fetchall()
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
    }
    return {call for (call,) in conn.execute(sql.SELECT_OVER, columns).fetchall()}


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
        "calls": [one.worst.model_calls for one, _ in rows],
    }
