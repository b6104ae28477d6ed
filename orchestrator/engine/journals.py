"""What a step has done inside and need not do again, whatever attempt it is in."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.engine.ground import Ground
from orchestrator.engine.patience import patiently
from orchestrator.engine.values import Claimed
from orchestrator.store import journal_queries as sql


class Entry(NamedTuple):
    """One block that was executed, or one question that was answered."""

    name: str
    value: str
    """JSON text."""
    told: bool = False
    """Whether an attempt has ended since, and told what it consumed."""


class Journals(Ground):
    """Reads and writes the journals of steps."""

    @patiently
    def read_journal(self, claimed: Claimed) -> dict[int, Entry]:
        """The entries of this step, by place."""
        with self.pool.connection() as conn:
            keys = {"run": claimed.run.id, "path": claimed.path}
            rows = conn.execute(sql.SELECT_JOURNAL, keys).fetchall()
        return {position: Entry(name, value, told) for position, name, value, told in rows}

    @patiently
    def write_journal(self, claimed: Claimed, position: int, entry: Entry) -> bool:
        """Keep an entry; False if the attempt is no longer the one that runs, and nothing was kept."""
        keys = {
            "run": claimed.run.id,
            "path": claimed.path,
            "attempt": claimed.attempt,
            "worker": self.me.id,
            "position": position,
            "name": entry.name,
            "value": entry.value,
        }
        with self.pool.connection() as conn:
            return conn.execute(sql.INSERT_ENTRY, keys).fetchone() is not None
