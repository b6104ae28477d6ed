"""Reads the events of a run in order, and numbers those that have no number yet."""

from __future__ import annotations

from uuid import UUID

from orchestrator.store import view_queries as sql
from orchestrator.store.connect import Pool
from schemas.events import Event, EventKind


class Feed:
    """The events of any run."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def read(self, run_id: UUID, after: int = 0, limit: int = 1_000) -> list[Event]:
        """Events numbered above `after`, in order; the same number always names the same event."""
        keys = {"run": run_id}
        with self._pool.connection() as conn:
            unnumbered = conn.execute(sql.SELECT_UNNUMBERED, keys).fetchone()
            if unnumbered is not None and unnumbered[0]:
                with conn.transaction():
                    conn.execute(sql.LOCK_NUMBERING, keys)
                    conn.execute(sql.NUMBER_EVENTS, keys)
            rows = conn.execute(sql.SELECT_EVENTS, keys | {"after": after, "limit": limit}).fetchall()
        return [
            Event(run_id=run, number=number, kind=EventKind(kind), path=path, at=at, data=data)
            for run, number, kind, path, at, data in rows
        ]

    def all(self, run_id: UUID) -> list[Event]:
        """Every event that the run has so far."""
        events = self.read(run_id)
        while more := self.read(run_id, after=events[-1].number if events else 0):
            events += more
        return events
