"""The backend as Celery loads it."""

from __future__ import annotations

from orchestrator.results.failures import FailureCarrier


class Backend(FailureCarrier):
    """Celery results, groups and chords in Postgres.

    Settings of Celery that are honoured: `result_serializer`, `result_compression`, `result_extended`,
    `result_expires`, `result_failure_expires`, `result_chord_expires`, `result_chord_join_timeout`,
    `result_backend_always_retry` and its four companions. Of `result_backend_transport_options`:

    - `create_tables` (default False): create missing tables on first use;
    - `pool_size` (default 8): most connections per process; a prefork child uses one or two;
    - `pool_timeout` (default 10): seconds to wait for a connection.

    A subclass that answers for some tasks itself overrides `mark_as_done`, `mark_as_failure`,
    `mark_as_revoked`, `on_chord_part_return`, `apply_chord` and `get_task_meta`, looks at the request (or
    id), and calls `super()` for all others. Every kind of waiting (`get`, `join`, `get_many`) asks
    `read_ready` instead of `get_task_meta`, so it overrides that too; it may return metas there.
    """
