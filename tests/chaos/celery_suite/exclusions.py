"""Which of Celery's integration tests are run, which are not, and why."""

from __future__ import annotations

MODULES = (
    "test_canvas.py",
    "test_tasks.py",
    "test_group_chains.py",
    "test_serialization.py",
    "test_request_backend_down.py",
    "test_worker.py",
)

OTHER_MODULES = {
    "test_backend.py": "it tests the Azure Block Blob backend",
    "test_cache_backend.py": "it tests the memcached backend",
    "test_database_backend.py": "it tests the SQLAlchemy backend",
    "test_redis_backend.py": "it tests the Redis backend",
    "test_backend_leak_in_fixture_teardown.py": "it counts connections of the Redis backend",
    "the others": "they are about beat, events, inspection, security and logs",
}

EXCLUDED = {
    "test_canvas.py::test_chord::test_chord_on_error": "it asks for the key under which Redis counts a chord",
    "test_tasks.py::test_task_redis_result_backend::test_asyncresult_forget_cancels_subscription": (
        "it looks for a channel of the Redis backend"
    ),
    "test_tasks.py::test_task_redis_result_backend::test_asyncresult_get_cancels_subscription": (
        "it looks for a channel of the Redis backend"
    ),
    "test_worker.py::test_django_fixup_direct_worker": "it needs Django",
    "test_worker.py::test_django_fixup_installs_django_task_for_celery_subclass": "it needs Django",
    "test_worker.py::test_django_fixup_signals_only_handled_by_own_app": "it needs Django",
}
"""Tests of these modules that cannot run here; Celery itself skips or expects to fail a few more, and says why."""
