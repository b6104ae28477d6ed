"""Results of tools that answer equal calls, and of equal calls at the same time the one that is made.

Whoever finds nothing takes the key with a lease, which it renews while it computes; the others look again. A holder
that was killed renews no more, and the next one that looks takes over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from orchestrator.engine.patience import patiently
from orchestrator.store import tool_queries as sql
from orchestrator.store.connect import Pool

LEASE = 4.0
"""Seconds after which a holder of whom nothing was heard is taken for dead."""

ERROR = 60.0
"""Seconds after which the row of a call that failed may go; its error is for those who waited for it."""


@dataclass(frozen=True)
class Hit:
    """A result that is good."""

    value: str
    """JSON text."""


@dataclass(frozen=True)
class Missed:
    """The call that was waited for has failed."""

    error: str


@dataclass(frozen=True)
class Busy:
    """Somebody computes it."""

    since: datetime
    """Since when it is waited for, by the clock of the database."""


@dataclass(frozen=True)
class Mine:
    """Nobody else computes it while this lease holds."""

    key: str
    holder: UUID


class ToolCache:
    """Safe from many threads and processes."""

    def __init__(self, pool: Pool, lease: float = LEASE) -> None:
        self._pool = pool
        self.lease = lease
        """Seconds."""

    @patiently
    def look(self, key: str, holder: UUID, since: datetime | None = None) -> Hit | Missed | Busy | Mine:
        """What there is for this key; nothing is there when it is `Mine`.

        `since` is what an earlier look of the same wait has told.
        """
        with self._pool.connection() as conn:
            row = conn.execute(sql.SELECT_CACHED, {"key": key, "holder": holder}).fetchone()
            if row is not None:
                value, is_good, error, ended_at, is_held = row
                if is_good:
                    return Hit(value)
                if error is not None and since is not None and ended_at >= since:
                    return Missed(error)
                if is_held:
                    return Busy(since or _now(conn.execute(sql.SELECT_NOW).fetchone()))
            keys = {"key": key, "holder": holder, "lease": self.lease}
            if conn.execute(sql.TAKE_CACHED, keys).fetchone() is not None:
                return Mine(key, holder)
            return Busy(since or _now(conn.execute(sql.SELECT_NOW).fetchone()))

    @patiently
    def renew(self, mine: Mine) -> None:
        """Say that it is still computed."""
        with self._pool.connection() as conn:
            conn.execute(sql.RENEW_CACHED, {**mine.__dict__, "lease": self.lease})

    def keep(self, mine: Mine, value: str, seconds: float) -> None:
        """Let this JSON text answer equal calls from now on; nothing happens if the lease went to somebody else."""
        self._end(mine, value, None, seconds)

    def fail(self, mine: Mine, error: str) -> None:
        """Tell those who wait that it has failed. Whoever comes later tries again."""
        self._end(mine, None, error, ERROR)

    def leave(self, mine: Mine) -> None:
        """Let somebody else try."""
        self._end(mine, None, None, ERROR)

    @patiently
    def _end(self, mine: Mine, value: str | None, error: str | None, seconds: float) -> None:
        keys = {**mine.__dict__, "value": value, "error": error, "seconds": seconds}
        with self._pool.connection() as conn:
            conn.execute(sql.END_CACHED, keys)


def _now(row: tuple[datetime, ...] | None) -> datetime:
    assert row is not None  # noqa: S101  the clock always answers
    return row[0]
