"""Waiting for results: all waiters of a process share one query.

Whoever waits while nobody is polling becomes the poller and asks for the ids of everybody, at first every
2 ms and, as long as nothing comes, ever less often, down to every 50 ms. Everybody else sleeps until woken.
There is no thread of our own, so there is nothing to start, stop or lose in a fork.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from celery import states
from celery.exceptions import TimeoutError as CeleryTimeout

from orchestrator.results.records import Finished, Meta, RecordKeeper

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.05
GROWTH = 1.5

Read = Callable[[Sequence[str]], dict[str, Finished]]


class Watch:
    """The waiters of one process. `read` returns those ids that are ready."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._wanted: Counter[str] = Counter()
        self._found: dict[str, Finished] = {}
        self._polling = False
        self._rounds = 0
        self._pause = FIRST_PAUSE

    @contextmanager
    def on(self, ids: Iterable[str]) -> Iterator[Callable[[float], dict[str, Finished]]]:
        """Yield `take(seconds)`: what came since its last call, as soon as anything did or time is up."""
        if self._pid != os.getpid():
            # The poller of the parent, and perhaps the holder of its lock, do not exist in a forked child.
            self._forget_everything()
        waiting = set(ids)
        with self._changed:
            self._wanted.update(waiting)
            self._pause = FIRST_PAUSE
            self._changed.notify_all()
        try:
            yield lambda seconds: self._take(waiting, time.monotonic() + seconds)
        finally:
            with self._changed:
                self._leave(waiting)

    def _take(self, waiting: set[str], until: float) -> dict[str, Finished]:
        with self._changed:
            # Even with no time left, look once: what is ready must not count as late. A query under way
            # may have left before we came, so wait for the one after it.
            enough = self._rounds + (2 if self._polling else 1)
            while True:
                come = waiting & self._found.keys()
                if come or (self._rounds >= enough and time.monotonic() >= until):
                    payloads = {task_id: self._found[task_id] for task_id in come}
                    self._leave(come)
                    waiting -= come
                    return payloads
                if self._polling:
                    self._changed.wait(max(until - time.monotonic(), FIRST_PAUSE))
                else:
                    self._poll(waiting, until)

    def _poll(self, waiting: set[str], until: float) -> None:
        """Poll for everybody until something came for us or our time is up. Called with the lock held."""
        self._polling = True
        try:
            while True:
                took = self._poll_once()
                left = until - time.monotonic()
                if left <= 0 or waiting & self._found.keys():
                    return
                # A query over thousands of ids must not follow on its own heels.
                self._changed.wait(min(max(self._pause, took), left))
                self._pause = min(self._pause * GROWTH, LONGEST_PAUSE)
        finally:
            self._polling = False
            self._changed.notify_all()

    def _poll_once(self) -> float:
        """Ask once, the lock released meanwhile; return how long it took, in seconds."""
        ids = [task_id for task_id in self._wanted if task_id not in self._found]
        began = time.monotonic()
        self._changed.release()
        try:
            found = self._read(ids)
        finally:
            self._changed.acquire()
        self._rounds += 1
        # Somebody may have stopped waiting during the query.
        found = {task_id: payload for task_id, payload in found.items() if self._wanted[task_id]}
        if found:
            self._found.update(found)
            self._pause = FIRST_PAUSE
            self._changed.notify_all()
        return time.monotonic() - began

    def _leave(self, ids: set[str]) -> None:
        for task_id in ids:
            self._wanted[task_id] -= 1
            if self._wanted[task_id] <= 0:
                del self._wanted[task_id]
                self._found.pop(task_id, None)


class Waiter(RecordKeeper):
    """`AsyncResult.get` and its relatives."""

    supports_native_join = True

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, url, **kwargs)
        self._watch = Watch(self._read_ready_surely)

    def _read_ready_surely(self, task_ids: Sequence[str]) -> dict[str, Finished]:
        ready: dict[str, Finished] = self._ensure_retryable(self.read_ready, task_ids)
        return ready

    def get_many(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        interval: float | None = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Meta], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        max_iterations: int | None = None,
        READY_STATES: frozenset[str] = states.READY_STATES,
    ) -> Generator[tuple[str, Meta], None, None]:
        """Yield `(id, meta)` of each task as it finishes, all of them watched by one query.

        `interval` (seconds) is only how often `on_interval` is called. With `max_iterations` the tasks are
        looked at once and those that are unfinished are left out. Raises `celery.exceptions.TimeoutError`.
        """
        waiting = {str(task_id) for task_id in task_ids}
        yield from self._finished_before(waiting)
        if max_iterations:
            yield from self._decode_all(self._read_ready_surely(list(waiting)), on_message)
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        pace = interval or 0.5
        with self._watch.on(waiting) as take:
            while waiting:
                left = pace if deadline is None else deadline - time.monotonic()
                come = take(max(min(pace, left), 0.0))
                waiting -= come.keys()
                yield from self._decode_all(come, on_message)
                if come:
                    continue
                if on_interval:
                    on_interval()
                if deadline is not None and time.monotonic() >= deadline:
                    raise CeleryTimeout("The operation timed out.")

    def _finished_before(self, waiting: set[str]) -> Iterator[tuple[str, Meta]]:
        """Yield what this process knows already, and take it out of `waiting`."""
        for task_id in list(waiting):
            meta = self._cache.get(task_id)
            if meta and meta.get("status") in states.READY_STATES:
                waiting.discard(task_id)
                yield task_id, meta

    def _decode_all(
        self, payloads: dict[str, Finished], on_message: Callable[[Meta], object] | None
    ) -> Iterator[tuple[str, Meta]]:
        for task_id, payload in payloads.items():
            # A copy, since Celery writes into it.
            meta = self.decode_result(payload) if isinstance(payload, bytes) else dict(payload)
            if meta["status"] == states.SUCCESS:
                self._cache[task_id] = meta
            if on_message:
                on_message(meta)
            yield task_id, meta

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Callable[[], object] | None = None,
        on_message: Callable[[Meta], object] | None = None,
    ) -> Meta:
        """Wait for one task and return its meta. Raises `celery.exceptions.TimeoutError`."""
        self._ensure_not_eager()
        watched = self.get_many([task_id], timeout, interval, on_interval=on_interval, on_message=on_message)
        with closing(watched):
            _, meta = next(watched)
        return meta

    def wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Meta], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        callback: Callable[[str, Any], object] | None = None,
        propagate: bool = True,
    ) -> Any:
        """Wait for `result` and return its value, or raise the task's exception."""
        meta = self.wait_for(
            result.id, timeout=timeout, interval=interval, on_interval=on_interval, on_message=on_message
        )
        if on_interval and meta["status"] in states.PROPAGATE_STATES:
            # `on_interval` raises what a parent raised: the cause, where ours is only "a header failed".
            on_interval()
        result._maybe_set_cache(meta)
        return result.maybe_throw(propagate=propagate, callback=callback)
