"""What agents say while they work: events of the run long before their outcome is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from orchestrator.engine.ground import Ground
from orchestrator.store import delta_queries as sql


class Delta(NamedTuple):
    """A piece of it."""

    run_id: UUID
    path: str
    attempt: int
    data: str
    """JSON text."""


class Deltas(Ground):
    """Writes what attempts say."""

    def write_deltas(self, deltas: Sequence[Delta]) -> set[tuple[UUID, str, int]]:
        """The attempts of which all was written, in order: those that run here, and that nobody changes just now."""
        keys = {
            "runs": [one.run_id for one in deltas],
            "paths": [one.path for one in deltas],
            "attempts": [one.attempt for one in deltas],
            "data": [one.data for one in deltas],
            "worker": self.me.id,
        }
        with self.pool.connection() as conn:
            rows = conn.execute(sql.INSERT_DELTAS, keys).fetchall()
        return {(run_id, path, attempt) for run_id, path, attempt, _ in rows}
