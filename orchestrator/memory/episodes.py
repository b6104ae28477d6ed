"""The past runs of a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from orchestrator.engine.patience import patiently
from orchestrator.engine.plans import Plans
from orchestrator.store import memory_queries as sql
from orchestrator.store.connect import Pool
from orchestrator.watching.views import Views
from schemas.memory import Episode
from schemas.runs import RunFigures, RunState


class Episodes:
    """What became of the runs of a tenant before."""

    def __init__(self, pool: Pool, plans: Plans) -> None:
        self._pool = pool
        self._views = Views(pool, plans)

    @patiently
    def of(self, tenant: str, key: str, most: int, besides: UUID) -> list[Episode]:
        """The runs of this key (their label `key`) that have ended, the newest first, without those that others
        started.
        """
        keys = {"tenant": tenant, "key": key, "most": most, "run_id": besides}
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_EPISODES, keys).fetchall()
        figures = {one.id: one for one in self._views.figures(row["id"] for row in rows)}
        return [self._episode(row, figures[row["id"]]) for row in rows if row["id"] in figures]

    def _episode(self, row: Mapping[str, Any], figures: RunFigures) -> Episode:
        end = self._views.end(row["id"]) if row["state"] == RunState.COMPLETED else None
        return Episode(
            run_id=row["id"],
            workflow=row["workflow"],
            state=row["state"],
            input=row["input"],
            output=end.output if end is not None else None,
            error=row["error"],
            started=row["started_at"],
            finished=row["finished_at"],
            cost=figures.usage,
        )
