"""Fires what is due: delayed starts, retries, deadlines of fan-outs, runs and waits, schedules, events from outside.

Each is a row in Postgres. Any number of copies may look, with nobody in charge: rows are taken with `SKIP LOCKED`,
deadlines under their run's lock. Which copy looks when is only a matter of cost. The living workers share a round of
`TURN` seconds each, at most `LONGEST` in all, and each looks when its turn comes and waits for what is due within it.
So the fleet looks about ten times a second while it is small and each worker once a second when it is large, and a
timer that was set a moment ago is found within `TURN`. A copy that died or froze makes those that were due in its turn
late by one turn.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from orchestrator.clock.recurrence import Recurrence
from orchestrator.engine import Engine, Ready
from orchestrator.engine.values import RunRef
from orchestrator.incoming.deliverer import Deliverer
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.store import timer_queries as sql
from orchestrator.store.connect import Conn

log = logging.getLogger(__name__)

TURN = 0.1
"""Seconds of a small fleet's turn."""

LONGEST = 1.0
"""Seconds between two looks of one copy at most."""

BREATH = 0.01
"""Seconds between two looks at least: what becomes due meanwhile is fired together."""

AWAY = 2.0
"""Seconds for which a copy that cannot reach a server leaves the timers to the others."""

MOST = 200
"""Steps that one statement takes: few enough for those at the end to be sent soon."""


class Seen(NamedTuple):
    """What a look found."""

    steps: bool
    """Whether steps or fan-outs are due."""
    runs: bool
    schedules: bool
    events: bool
    """Whether events from outside are to be dealt with."""
    next_in: float | None
    """Seconds until the next timer that is not due yet."""
    now: float
    """The database's clock, in seconds."""
    workers: int
    before: int
    """Living workers, and those of them that stand before this one."""


class Timers:
    """One copy: call `look` every `pause` seconds, which changes with each look."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._recurrence = Recurrence(engine)
        self._deliverer = Deliverer(engine)
        self.pause = 0.0
        """Seconds until this copy should look again."""

    def look(self) -> int:
        """Fire all that is due; how many steps were sent. Raises psycopg's errors when Postgres is away."""
        self.pause = AWAY
        with self._engine.pool.connection() as conn:
            seen = self._see(conn)
            seen_at = time.monotonic()
            started = self._take(conn) if seen.steps else []
        sent = [self._send(started)]
        begun = self._recurrence.fire() if seen.schedules else []
        sent.append(self._send(begun))
        caused, more = self._deliverer.deliver() if seen.events else ([], False)
        sent.append(self._send(caused))
        woken, again = self._engine.wake() if seen.events else ([], False)
        sent.append(self._send(woken))
        late = self._engine.expire() if seen.steps or seen.runs else []
        sent.append(self._send(late))
        late += (expired := self._engine.expire_waits() if seen.steps else [])
        sent.append(self._send(expired))
        if all(sent):
            busy = bool(started or begun or caused or woken or late or seen.runs)
            more = more or again or len(started) == MOST
            self.pause = 0.0 if more else pause(seen, time.monotonic() - seen_at, busy=busy)
        return len(started) + len(begun) + len(caused) + len(woken) + len(late)

    def _see(self, conn: Conn) -> Seen:
        me = self._engine.worker.id if self._engine.worker is not None else None
        row = conn.execute(sql.SELECT_DUE, {"self": me}).fetchone()
        assert row is not None  # noqa: S101  it has no source that may be empty
        return Seen(*row)

    def _take(self, conn: Conn) -> list[Ready]:
        return [self._ready(conn, row) for row in conn.execute(sql.TAKE_DUE_STEPS, {"most": MOST}).fetchall()]

    def _ready(self, conn: Conn, row: tuple[Any, ...]) -> Ready:
        run_id, path, agent, attempts, definition, priority, _ = row
        run = RunRef(run_id, self._engine.plans.load(definition, conn), priority)
        return Ready(run, path, agent, attempts + 1)

    def _send(self, ready: Sequence[Ready]) -> bool:
        """False if they could not be sent: recovery will, and others may reach the broker meanwhile."""
        return not ready or self._dispatcher.send(ready)


def pause(seen: Seen, elapsed: float, *, busy: bool = False) -> float:
    """Seconds until this copy should look again, `elapsed` seconds after it saw this; `busy` if something was due.

    Within its own turn it waits for the next timer, and looks again at once after it fired some. Otherwise it sleeps
    until its next turn.
    """
    copies = max(seen.workers, 1)
    all_turns = min(copies * TURN, LONGEST)
    turn = all_turns / copies
    since = (seen.now + elapsed - seen.before * turn) % all_turns
    next_in = 0.0 if busy else (seen.next_in if seen.next_in is not None else LONGEST) - elapsed
    if since + next_in < turn:
        return max(BREATH, next_in)
    return max(BREATH, all_turns - since)
