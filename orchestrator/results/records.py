"""Results and groups as rows: store, read, forget, expire."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import ImproperlyConfigured
from celery.result import result_from_tuple

from orchestrator.store import result_queries
from orchestrator.store.connect import Conn, Overslept, Pool

T = TypeVar("T")
Meta = dict[str, Any]
"""What Celery keeps of a task: `status`, `result`, `traceback`, `children`, `date_done` and more."""

Finished = bytes | Meta
"""A finished task: its stored payload, or its meta, from a subclass that has rows of its own."""

MISSING_TABLES = (
    "The tables of the result backend are missing in this database: run `baton db upgrade`, "
    "or set result_backend_transport_options = {'create_tables': True}."
)


class RecordKeeper(BaseBackend):
    """Celery's plain results and group results, one row each."""

    supports_result_compression = True
    supports_failure_expires = True
    supports_autoexpire = False

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, expires_type=float, **kwargs)
        if not url:
            raise ImproperlyConfigured("The Postgres result backend needs the address of its database.")
        # One instance, and so one pool, serves every thread of a process.
        self.thread_safe = True
        self._prefer_retries()
        options = app.conf.get("result_backend_transport_options") or {}
        self._create_tables = bool(options.get("create_tables", False))
        self._tables_known = False
        self._pool = Pool(
            url, size=int(options.get("pool_size", 8)), timeout=float(options.get("pool_timeout", 10.0))
        )
        # At exit, or when nobody holds the backend any more.
        self.close = weakref.finalize(self, self._pool.close)

    def _prefer_retries(self) -> None:
        # As Celery's own database backend does: a restart of the server should not cost a result. Each
        # attempt waits up to `pool_timeout` for a connection, so six attempts bridge about a minute.
        if not self.app.conf.value_set_for("result_backend_always_retry"):
            self.always_retry = True
        if not self.app.conf.value_set_for("result_backend_max_retries"):
            self.max_retries = 5

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Say whether the server or the way to it failed, rather than our statement."""
        return isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)

    # -- connections

    def with_connection(self, work: Callable[[Conn], T]) -> T:
        """Run `work` on a pooled connection, and again on a new one if that connection was dead, or died meanwhile.

        `work` must bear repetition. Raises `psycopg.Error`, and `ImproperlyConfigured` without tables.
        """
        try:
            return self._lend(work)
        except (_StaleConnection, Overslept):
            return self._lend(work)

    def _lend(self, work: Callable[[Conn], T]) -> T:
        with self._pool.connection() as conn:
            try:
                self._know_tables(conn)
                return work(conn)
            except (psycopg.OperationalError, psycopg.InterfaceError) as exc:
                if conn.closed:
                    raise _StaleConnection(str(exc)) from exc
                raise

    def _know_tables(self, conn: Conn) -> None:
        if self._tables_known:
            return
        if not result_queries.tables_exist(conn):
            if not self._create_tables:
                raise ImproperlyConfigured(MISSING_TABLES)
            result_queries.create_tables(conn)
        self._tables_known = True

    # -- results

    def encode_bytes(self, data: Any) -> bytes:
        """Encode with the result serializer, and compress if the application wants it.

        Raises `kombu.exceptions.EncodeError`.
        """
        encoded: str | bytes = self.encode(data)
        return encoded.encode() if isinstance(encoded, str) else encoded

    def encode_meta(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None
    ) -> bytes:
        """Encode everything Celery keeps of a task; `result` has been through `encode_result` already."""
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        return self.encode_bytes({**meta, "task_id": str(task_id)})

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **_: Any
    ) -> Any:
        payload = self.encode_meta(task_id, result, state, traceback, request)
        self.with_connection(lambda conn: result_queries.store_result(conn, str(task_id), state, payload))
        return result

    def _get_task_meta_for(self, task_id: str) -> Meta:
        payload = self.with_connection(lambda conn: result_queries.fetch_result(conn, str(task_id)))
        if payload is None:
            return {"status": states.PENDING, "result": None}
        return self.decode_result(payload)

    def task_result_exists(self, task_id: str) -> bool:
        """Say whether anything is stored for this task, whatever its state."""
        work = result_queries.fetch_result
        return self._ensure_retryable(self.with_connection, lambda conn: work(conn, task_id)) is not None

    def read_ready(self, task_ids: Sequence[str]) -> dict[str, Finished]:
        """Return those tasks that have finished, in one query: what every kind of waiting is built on."""
        ready = sorted(states.READY_STATES)
        return self.with_connection(
            lambda conn: {**result_queries.fetch_results_in_states(conn, task_ids, ready)}
        )

    def _forget(self, task_id: str) -> None:
        self.with_connection(lambda conn: result_queries.forget_result(conn, str(task_id)))

    # -- groups

    def _save_group(self, group_id: str, result: Any) -> Any:
        payload = self.encode_bytes({"result": result.as_tuple()})
        self.with_connection(lambda conn: result_queries.save_group(conn, str(group_id), payload))
        return result

    def _restore_group(self, group_id: str) -> Meta | None:
        payload = self.with_connection(lambda conn: result_queries.restore_group(conn, str(group_id)))
        return None if payload is None else {"result": self.decode_group(payload)}

    def decode_group(self, payload: bytes) -> Any:
        """Turn a stored group back into a `GroupResult`."""
        return result_from_tuple(self.decode(payload)["result"], self.app)

    def _delete_group(self, group_id: str) -> None:
        self.with_connection(lambda conn: result_queries.delete_group(conn, str(group_id)))

    # -- expiry

    def cleanup(self) -> None:
        """Delete what has expired; Celery's beat calls this once a day. Open chords and their headers stay.

        An open chord is given up only if `result_chord_expires` is set and nothing came for that long.
        """
        self._ensure_retryable(self.with_connection, self._cleanup)

    def _cleanup(self, conn: Conn) -> None:
        others = self.expires or None
        conf = self.app.conf
        failures = self.prepare_expires(conf.get("result_failure_expires"), float) or None
        waiting = conf.get("result_chord_expires")
        open_ = self.prepare_expires(waiting, float) or None if waiting is not None else None
        result_queries.expire_results(conn, failures=failures, others=others)
        result_queries.expire_groups(conn, others)
        result_queries.expire_chords(conn, done=others, open_=open_)
        result_queries.expire_parts(conn, others)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "expires": self.expires, "url": self.url})


class _StaleConnection(psycopg.OperationalError):
    """The connection died under the statement."""
