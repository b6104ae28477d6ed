"""Budgets after a call of a model, and after an attempt: what was consumed is counted, what was set aside is free.

What nobody tells of, because its worker is dead or stopped, is counted with the least that it has cost, by whoever
takes its attempt back or finds that it is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from orchestrator.engine.accounts import waited_for
from orchestrator.engine.ground import Ground
from orchestrator.engine.limits import GRACE
from orchestrator.engine.patience import patiently
from orchestrator.engine.spending import warn
from orchestrator.engine.values import Pointer, Ready
from orchestrator.store import settling_queries as sql
from orchestrator.store.connect import Conn
from schemas.usage import MOST, Usage


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


class Lapsed(NamedTuple):
    """What was set aside by attempts that are over."""

    freed: Sequence[str] = ()
    """An account for each reservation in it that was put away."""
    spent: Sequence[str] = ()
    """Accounts in which the least of a call was booked."""
    runs: Sequence[UUID] = ()


def lapse(conn: Conn, statement: LiteralString, keys: Mapping[str, Any]) -> Lapsed:
    """Put away what was set aside by attempts that are over, and book the least of their calls: `LAPSE_...`"""
    rows = conn.execute(statement, {**keys, "grace": GRACE}).fetchall()
    return Lapsed(
        [account for account, freed, _ in rows if freed],
        [account for account, freed, _ in rows if not freed],
        [run for _, _, run in rows if run is not None],
    )


def end_holds(conn: Conn, attempts: Sequence[tuple[UUID, str, int]]) -> list[str]:
    """Free what attempts (run, path, number) had set aside as a whole, in the transaction that records them.

    Gives an account for each reservation in it.
    """
    if not attempts:
        return []
    runs, paths, numbers = (list(column) for column in zip(*attempts, strict=True))
    keys = {"runs": runs, "paths": paths, "attempts": numbers}
    return [account for (account,) in conn.execute(sql.END_HOLDS, keys).fetchall()]


class Settling(Ground):
    """Settles."""

    @patiently
    def release_calls(self, calls: Sequence[UUID]) -> list[Ready]:
        """Of calls that came to nothing: nothing is set aside for them any more; the steps that may ask instead."""
        with self.pool.connection() as conn:
            freed = conn.execute(sql.DELETE_RESERVATIONS, {"ids": calls}).fetchall()
            if lost := set(calls) - {call for call, _ in freed}:
                none = [0] * len(lost)
                keys = {"ids": sorted(lost), "tokens": none, "outputs": none, "usds": none, "calls": none}
                conn.execute(sql.CORRECT, keys)
            return self._wake_waiters([account for _, account in freed], conn)

    @patiently
    def settle_calls(self, paid: Sequence[Paid]) -> list[Ready]:
        """Count what calls have cost, each once however often it is told; the steps that waited for them to end."""
        figures = {
            "ids": [one.id for one in paid],
            "tokens": [min(one.usage.tokens, MOST) for one in paid],
            "outputs": [min(one.output_tokens, MOST) for one in paid],
            "usds": [min(one.usage.usd, MOST) for one in paid],
            "calls": [min(one.usage.model_calls, MOST) for one in paid],
        }
        columns = {
            "runs": [one.run_id for one in paid],
            "paths": [one.path for one in paid],
            "attempts": [one.attempt for one in paid],
            "agents": [one.agent for one in paid],
            "models": [one.model for one in paid],
        }
        with self.pool.connection() as conn:
            rows = conn.execute(sql.SETTLE, figures | columns).fetchall()
            spent = {account for account, freed in rows if freed is False}
            # Told before, or booked when its attempt was taken back.
            if any(freed is None for _, freed in rows):
                spent |= {account for (account,) in conn.execute(sql.CORRECT, figures).fetchall()}
            # Now that it is committed: of several who settle at a time, the last one sees all.
            warn(conn, spent, [one.run_id for one in paid])
            return self._wake_waiters([account for account, freed in rows if freed], conn)

    @patiently
    def lapse_ended(self) -> list[Ready]:
        """Put away what attempts that are over had set aside, wherever that is; the steps that waited for it."""
        with self.pool.connection() as conn:
            return self._after(conn, lapse(conn, sql.LAPSE_ALL, {}))

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

    def _after(self, conn: Conn, lapsed: Lapsed) -> list[Ready]:
        """What follows when that is committed: whom to warn, and the steps that may ask now."""
        warn(conn, lapsed.spent, lapsed.runs)
        return self._wake_waiters(lapsed.freed, conn)

    def _passed_on(self, conn: Conn, turned_away: Mapping[Pointer, bool]) -> list[str]:
        """The accounts whose waiters may ask now although nothing ends: of steps that budgets did not let begin.

        One that is refused (else it waits) makes no use of its turn, which is the next one's. What one waits for may
        have ended while it was being put off: then nobody would wake it.
        """
        if not turned_away:
            return []
        columns = {"runs": [run for run, _ in turned_away], "paths": [path for _, path in turned_away]}
        rows = conn.execute(sql.SELECT_IDLE, {**columns, "grace": GRACE}).fetchall()
        return [account for account, idle in rows if idle or any(turned_away.values())]

    def _wake_waiters(self, freed: Sequence[str], conn: Conn) -> list[Ready]:
        """Those that wait for these accounts, one for each call that has ended."""
        if not freed:
            return []
        ended = Counter(waited_for(account) for account in freed)
        keys = {"keys": sorted(ended), "most": [ended[key] for key in sorted(ended)]}
        return self.located(conn, conn.execute(sql.WAKE_WAITERS, keys).fetchall())
