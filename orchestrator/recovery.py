"""Finds what a crash left undone and has it sent again. It never executes anything.

Any number of sweeps may run at the same time: each takes its rows with `SKIP LOCKED`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.engine import Engine, Ready
from orchestrator.messaging.broker import VISIBILITY_TIMEOUT
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.store import recovery_queries as sql
from orchestrator.store.connect import Conn
from schemas.agents import agent_of, is_queue

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that a step may lie ready, with room in its workers and nothing in its queue, before it is sent again."""

RARELY = 2
"""Sweeps between two looks for what only a crash at an unlucky moment leaves behind."""

MOST = 1_000
"""Steps that one statement takes."""


class Recovery:
    """One sweep after the other."""

    def __init__(
        self,
        engine: Engine,
        dispatcher: Dispatcher,
        *,
        patience: float = PATIENCE,
        grace: float = 0.0,
        may_bury: Callable[[], bool] = lambda: True,
    ) -> None:
        """`grace` is how many seconds a worker may need to beat again after nobody could; `may_bury` says whether
        this process could have heard the others beat.
        """
        self._engine = engine
        self._dispatcher = dispatcher
        self._patience = patience
        self._grace = grace
        self._may_bury = may_bury
        self._sweeps = 0
        self.unheard: frozenset[str] = frozenset()
        """Queues whose messages nobody takes although steps wait and their workers have room."""

    def sweep(self) -> int:
        """Bury dead workers, free what they held, re-send what lies; how many were sent."""
        self._sweeps += 1
        with self._engine.pool.connection() as conn:
            found = self._of_the_dead(conn)
            if self._sweeps % RARELY == 0:
                found += self._stranded(conn)
                found += self._overtaken(conn)
        found += self._engine.free_of_the_dead(grace=self._grace, most=MOST)
        if self._sweeps % RARELY == 0:
            found += self._engine.settle_forgotten()
            found += self._engine.lapse_ended()
        self._dispatcher.send(found)
        return len(found) + self._after_amnesia()

    def _of_the_dead(self, conn: Conn) -> list[Ready]:
        """What lay in the memory of dead workers without having been started."""
        if not self._may_bury():
            return []
        me = self._engine.worker.id if self._engine.worker is not None else None
        found: list[Ready] = []
        for _, name, queues, held in conn.execute(
            sql.BURY_WORKERS, {"self": me, "grace": self._grace}
        ).fetchall():
            log.warning("worker %s stopped beating: its steps go to others", name)
            keys = {"agents": _agents(queues), "patience": 0.0}
            found += self._take(conn, sql.TAKE_STRANDED, keys, 2 * held + 10)
        return found

    def _stranded(self, conn: Conn) -> list[Ready]:
        """What lies ready although its queue is empty and its workers have room."""
        keys = {"patience": self._patience, "redelivery": VISIBILITY_TIMEOUT}
        patience: dict[str, float] = dict(conn.execute(sql.SELECT_IDLE_QUEUES, keys).fetchall())
        backlogs = {queue: self._dispatcher.backlog(queue) for queue in patience}
        self.unheard = frozenset(queue for queue, backlog in backlogs.items() if backlog)
        found: list[Ready] = []
        for longest in set(patience.values()):
            idle = [
                queue for queue, backlog in backlogs.items() if backlog == 0 and patience[queue] == longest
            ]
            found += self._take(conn, sql.TAKE_STRANDED, {"agents": _agents(idle), "patience": longest})
        return found

    def _overtaken(self, conn: Conn) -> list[Ready]:
        """What lies ready although this worker has begun what came after it: its queue need never be empty."""
        if self._engine.worker is None:
            return []
        keys = {"worker": self._engine.worker.id, "patience": self._patience}
        return self._take(conn, sql.TAKE_OVERTAKEN, keys)

    def _after_amnesia(self) -> int:
        """Send everything that is ready, if the broker has lost its memory."""
        if not self._dispatcher.broker_has_forgotten():
            return 0
        sent = 0
        with self._engine.pool.connection() as conn:
            (before,) = conn.execute(sql.SELECT_NOW).fetchone() or (None,)
            while found := self._take(conn, sql.TAKE_ALL_READY, {"before": before}):
                if not (self._dispatcher.send(found) and self._dispatcher.still_forgets()):
                    return sent + len(found)
                sent += len(found)
        if self._dispatcher.broker_remembers() and sent:
            log.warning("the broker had lost its memory: sent %d ready steps again", sent)
        return sent

    def _take(self, conn: Conn, statement: Any, keys: dict[str, Any], most: int = MOST) -> list[Ready]:
        return self._engine.located(conn, conn.execute(statement, keys | {"most": most}).fetchall())


def _agents(queues: Iterable[str]) -> list[str]:
    return [agent_of(queue) for queue in queues if is_queue(queue)]
