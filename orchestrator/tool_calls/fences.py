"""Effects that must be had once, however often a call is made again: a fence is put up before."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from orchestrator.engine.patience import patiently
from orchestrator.store import tool_queries as sql
from orchestrator.store.connect import Pool


@dataclass(frozen=True)
class Holder:
    """The attempt that wants to have the effect."""

    run_id: UUID
    path: str
    attempt: int


@dataclass(frozen=True)
class Open:
    """Nobody had it before: go on."""


@dataclass(frozen=True)
class Behind:
    """It was begun before."""

    result: str | None
    """What came of it, as JSON text; None if nobody knows."""


@dataclass(frozen=True)
class Over:
    """The attempt is no longer the one that runs."""


class Fences:
    """Safe from many threads and processes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @patiently
    def put(self, holder: Holder, key: str, token: UUID) -> Open | Behind | Over:
        """Put up the fence, unless it is up, or the attempt is over."""
        keys = {"key": key, "token": token, **holder.__dict__, "run": holder.run_id}
        with self._pool.connection() as conn:
            if conn.execute(sql.PUT_FENCE, keys).fetchone() is not None:
                return Open()
            row = conn.execute(sql.SELECT_FENCE, {"key": key}).fetchone()
        return Over() if row is None else Behind(row[0])

    @patiently
    def end(self, key: str, token: UUID, result: str) -> None:
        """Write down what came of it, as JSON text."""
        with self._pool.connection() as conn:
            conn.execute(sql.END_FENCE, {"key": key, "token": token, "result": result})

    @patiently
    def drop(self, key: str, token: UUID) -> None:
        """Take it away: nothing was done behind it."""
        with self._pool.connection() as conn:
            conn.execute(sql.DROP_FENCE, {"key": key, "token": token})
