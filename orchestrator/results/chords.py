"""Chords joined natively: the last header to finish publishes the body, and nobody polls.

A header's result, its count and "the chord is complete" commit in one transaction
(`orchestrator.store.chord_queries` explains how without a common lock). The body is published after that
commit, with no connection held, since publishing a chord as body needs one itself. Should the publisher
die in between, the chord stays *fired* but not *done*; a redelivered header (`task_acks_late`) then finds
it so and publishes the body again, under the same task id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from celery import maybe_signature, states
from celery.backends.base import _create_chord_error_with_cause
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import GroupResult, allow_join_result
from celery.utils.functional import _regen
from celery.utils.log import get_logger

from orchestrator.results.waiting import Waiter
from orchestrator.store import chord_queries, result_queries
from orchestrator.store.chord_queries import Header, PartRow
from orchestrator.store.connect import Conn

logger = get_logger(__name__)

PUBLISHING_LEASE = 5.0
"""Seconds after which a chord that was fired, but is not done, has lost its publisher."""


class ChordKeeper(Waiter):
    """Counts headers and fires bodies."""

    # -- before the headers run

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, **kwargs: Any) -> None:
        """Open the chord. Celery calls this before it publishes the headers."""
        self.ensure_chords_allowed()
        chord_id, shape = str(header_result_args[0]), self._encode_shape(header_result_args)
        work = chord_queries.open_chord
        self._ensure_retryable(self.with_connection, lambda conn: work(conn, chord_id, shape))

    def _encode_shape(self, header_result_args: tuple[Any, ...]) -> bytes | None:
        """Encode a nested header; a flat one needs no shape, and a generator must not be consumed here."""
        if isinstance(header_result_args[1], _regen):
            return None
        header = self.app.GroupResult(*header_result_args)
        if not any(isinstance(result, GroupResult) for result in header.results):
            return None
        return self.encode_bytes({"result": header.as_tuple()})

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Say how many headers there are. Celery calls this before it publishes the last one."""
        work = chord_queries.size_chord
        self._ensure_retryable(self.with_connection, lambda conn: work(conn, str(group_id), chord_size))

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """Make the chord wait for one more header. Not repeated on errors: it would count twice."""
        self._lend(lambda conn: chord_queries.add_to_chord(conn, str(chord_id)))

    # -- when a header has finished

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """Store a task's value; if it is a chord's header, count it in the same transaction."""
        if not _is_header(request):
            super().mark_as_done(task_id, result, request, store_result, state)
            return
        kept = store_result and not request.ignore_result
        self._finish_header(task_id, result, state, request, kept)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Store a task's failure, count it if it is a header, fail its chain and call its errbacks."""
        if not _is_header(request):
            super().mark_as_failure(task_id, exc, traceback, request, store_result, call_errbacks, state)
            return
        self._finish_header(task_id, exc, state, request, store_result, traceback)
        chain = getattr(request, "chain", None)
        self._fail_chain(chain, exc, traceback, store_result=store_result, state=state)
        if call_errbacks and request.errbacks:
            self._call_task_errbacks(request, exc, traceback)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """Store that a task was revoked; a revoked header fails its chord."""
        if not _is_header(request):
            super().mark_as_revoked(task_id, reason, request, store_result, state)
            return
        self._finish_header(task_id, TaskRevokedError(reason), state, request, store_result)

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, told: Sequence[Any] = (), **kwargs: Any
    ) -> None:
        """Count a header whose result Celery has dealt with already.

        `told` are errbacks that know of this failure, so that the body's failure need not call them again.
        """
        if not request.group or not request.id:
            return
        part = self._part(request, state, self.encode_result(result, state), told)
        self._count(request, part, lambda conn: None)

    def _finish_header(
        self, task_id: str, result: Any, state: str, request: Any, kept: bool, traceback: Any = None
    ) -> None:
        encoded = self.encode_result(result, state)
        part = self._part(request, state, encoded)
        if not kept:
            self._count(request, part, lambda conn: None)
            return
        payload = self.encode_meta(task_id, encoded, state, traceback, request)
        work = result_queries.store_result
        self._count(request, part, lambda conn: work(conn, str(task_id), state, payload))

    def _part(self, request: Any, state: str, encoded: Any, told: Sequence[Any] = ()) -> Header:
        index = request.group_index
        return Header(
            chord_id=str(request.group),
            task_id=str(request.id),
            group_index=result_queries.NO_INDEX if index is None else int(index),
            succeeded=state not in states.PROPAGATE_STATES,
            payload=self.encode_bytes({"status": state, "result": encoded, "told": list(told)}),
        )

    def _count(self, request: Any, part: Header, record: Callable[[Conn], object]) -> None:
        counted, ready = self._ensure_retryable(
            self.with_connection, lambda conn: count_header(conn, part, record)
        )
        if ready or (not counted and self._take_over(part.chord_id)):
            self.fire_chord(part.chord_id, request.chord)

    def _take_over(self, chord_id: str) -> bool:
        """A header came twice: say whether the body lost its publisher, and wait until that is certain."""
        while True:
            verdict: bool | None = self._ensure_retryable(
                self.with_connection,
                lambda conn: chord_queries.reclaim_chord(conn, chord_id, PUBLISHING_LEASE),
            )
            if verdict is not None:
                return verdict
            time.sleep(0.05)

    # -- when all have finished

    def fire_chord(self, chord_id: str, body: Any) -> None:
        """Publish the body with the headers' values, or fail it. The caller has claimed the chord.

        `body` is the signature as the header's message carries it. No connection is held meanwhile.
        """
        callback = maybe_signature(body, app=self.app)
        try:
            self._publish_body(chord_id, callback)
        except ChordError as exc:
            logger.exception("Chord %r failed", chord_id)
            self.fail_body(callback, exc)
        except Exception as exc:  # whatever it was, those who wait for the body must learn of it
            logger.exception("Chord %r could not be joined", chord_id)
            self.fail_body(callback, ChordError(f"Join error: {exc!r}"))
        work = chord_queries.close_chord
        self._ensure_retryable(self.with_connection, lambda conn: work(conn, chord_id))

    def _publish_body(self, chord_id: str, callback: Any) -> None:
        values = self._join_header(chord_id)
        try:
            self.app.amqp._retry_publish(callback.delay, values)
        except Exception as exc:
            raise _create_chord_error_with_cause(f"Callback error: {exc!r}", exc) from exc

    def fail_body(self, callback: Any, exc: ChordError) -> None:
        """Fail the body of a chord that cannot be published."""
        self.chord_error_from_stack(callback, exc)

    def _join_header(self, chord_id: str) -> list[Any]:
        """Return the headers' values in the shape of the header; raises `ChordError` if one failed."""

        def read(conn: Conn) -> tuple[list[PartRow], bytes | None]:
            return chord_queries.fetch_parts(conn, chord_id), chord_queries.fetch_header(conn, chord_id)

        rows, shape = self._ensure_retryable(self.with_connection, read)
        values = [(row.task_id, self._value(row)) for row in rows]
        if shape is None:
            return [value for _, value in values]
        return self._reshape(self.decode_group(shape).results, dict(values))

    def _value(self, row: PartRow) -> Any:
        meta = self.decode_result(row.payload)
        if row.succeeded:
            return meta["result"]
        why = f"Dependency {row.task_id} raised {meta['result']!r}"
        error: Any = _create_chord_error_with_cause(why, meta["result"])
        error.told = meta.get("told", ())
        raise error

    def _reshape(self, results: Iterable[Any], values: dict[str, Any]) -> list[Any]:
        shaped = []
        for result in results:
            if isinstance(result, GroupResult):
                shaped.append(self._reshape(result.results, values))
            elif result.id in values:
                shaped.append(values[result.id])
            else:
                with allow_join_result():
                    shaped.append(result.get(timeout=self.app.conf.result_chord_join_timeout))
        return shaped


def count_header(conn: Conn, part: Header, record: Callable[[Conn], object]) -> tuple[bool, bool]:
    """Record a header's result and count it, in one transaction.

    Returns (counted, ready): was it counted now rather than earlier, and must the caller fire the body?
    """
    with conn.transaction():
        record(conn)
        counted = chord_queries.count_part(conn, part)
        ready = chord_queries.claim_inside(conn, part.chord_id)
    if ready is None:
        ready = chord_queries.claim_after(conn, part.chord_id)
    return counted, ready


def _is_header(request: Any) -> bool:
    return bool(request and request.chord and request.group and request.id)
