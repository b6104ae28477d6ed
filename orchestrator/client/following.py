"""Stays with a run until it has ended: its output, or its events as they happen."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from orchestrator.engine.patience import steadily
from orchestrator.messaging.bell import Bell
from orchestrator.people.approvals import Approvals
from orchestrator.store.connect import Pool
from orchestrator.store.refusals import translated
from orchestrator.watching.feed import Feed
from orchestrator.watching.held import lets_go_on
from orchestrator.watching.views import RunEnd, Views
from schemas.errors import ResultTimeout, RunFailed
from schemas.events import Event
from schemas.runs import RunState

T = TypeVar("T")


class Follower:
    """Waits for runs; safe from many threads."""

    def __init__(self, pool: Pool, views: Views, feed: Feed, bell: Bell, people: Approvals) -> None:
        self._pool = pool
        self._views = views
        self._feed = feed
        self._bell = bell
        self._people = people

    def result(self, run_id: UUID, timeout: float | None) -> Any:
        """The output of a run that completes within so many seconds. Raises as `Client.result`."""
        look = partial(self.read, partial(self._views.end, run_id))
        end = look() or self._await_end(run_id, look, timeout)
        if end.state != RunState.COMPLETED:
            reason = end.error.message if end.error is not None else "no reason given"
            raise RunFailed(
                f"run {run_id} {end.state}: {reason}",
                run_id=str(run_id),
                state=end.state,
                partial=end.partial,
            )
        return end.output

    def stream(self, run_id: UUID, after: int) -> Iterator[Event]:
        """The events above this number until the run has ended. Raises as `Client.stream`."""
        self.read(partial(self._views.summary, run_id))
        for pause in _pauses():
            ended = self.read(partial(self._views.has_ended, run_id))
            while events := self.read(partial(self._feed.read, run_id, after)):
                yield from events
                after = events[-1].number
            if ended:
                return
            time.sleep(pause)

    @translated()
    def read(self, read: Callable[[], T]) -> T:
        """What it gives, once a Postgres that restarts is back. Raises `Unavailable` after a minute."""
        return steadily(read, self._pool)

    def _await_end(self, run_id: UUID, look: Callable[[], RunEnd | None], timeout: float | None) -> RunEnd:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._bell.listening(run_id) as wait:
            # The first pause is short, since a run may have ended just before anybody listened.
            pauses = _pauses() if wait is None else itertools.chain((0.02, 0.1, 0.2), itertools.repeat(0.5))
            for pause in pauses:
                left = math.inf if deadline is None else deadline - time.monotonic()
                (wait or time.sleep)(max(0.0, min(pause, left)))
                end = look()
                if end is not None:
                    return end
                if left < 0:
                    break
        raise self._still_going(run_id, timeout)

    def _still_going(self, run_id: UUID, timeout: float | None) -> ResultTimeout:
        run = self.read(partial(self._views.summary, run_id))
        if run.state is RunState.PAUSED:
            reason = run.pause_reason or ""
            return ResultTimeout(f"run {run_id} is paused: {reason}", next_step=lets_go_on(run_id, reason))
        if asked := self._people.approvals(run_id=run_id, limit=1):
            whom = " or ".join(asked[0].audience) or "somebody"
            return ResultTimeout(
                f"run {run_id} waits for {whom} to decide: {asked[0].key}",
                next_step=f"baton approvals show {asked[0].id}",
            )
        return ResultTimeout(
            f"run {run_id} has not ended after {timeout:g} s", next_step=f"baton runs watch {run_id}"
        )


def _pauses() -> Iterator[float]:
    """Seconds between two looks: prompt at first, easy on the server when it takes long."""
    pause = 0.001
    while True:
        yield pause
        pause = min(pause * 1.06, 0.03)
