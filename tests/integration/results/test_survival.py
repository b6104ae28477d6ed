"""Forks, killed sessions, and a solo worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from celery import Celery, chord
from celery.result import AsyncResult

from orchestrator.local.postgres import Postgres
from orchestrator.results import Backend
from orchestrator.store.connect import Conn
from tests.integration.results import canvas_app
from tests.integration.results.canvas_app import add, total
from tests.integration.results.conftest import on_database, worker_command
from tests.support import Processes, eventually

FORK = """
import os, sys
from celery import Celery
app = Celery("forking", backend="orchestrator.results:Backend+" + sys.argv[1])
app.conf.result_backend_transport_options = {"create_tables": True}
backend = app.backend
backend.mark_as_done("parent", 1)
if os.fork() == 0:
    assert backend.get_result("parent") == 1
    backend.mark_as_done("child", 2)
    assert app.AsyncResult("child").get(timeout=5) == 2
    os._exit(0)
_, status = os.wait()
assert status == 0, status
backend.mark_as_done("parent again", 3)
assert app.AsyncResult("child").get(timeout=5) == 2
print("both lived")
"""


def test_a_fork_with_an_open_pool_harms_neither_side(processes: Processes, url: str) -> None:
    forking = processes.python(FORK, url)
    assert forking.wait() == 0, forking.text()
    assert "both lived" in forking.text()


def kill_sessions(url: str) -> int:
    """End every other session of this database, as a restart of the server would; return how many."""
    with psycopg.connect(url) as conn:
        killed = conn.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone()
    return killed[0] if killed else 0


@pytest.mark.parametrize("retries", [True, False], ids=["retrying", "not retrying"])
def test_a_killed_session_is_replaced_between_operations(lonely: Celery, retries: bool, url: str) -> None:
    lonely.conf.result_backend_always_retry = retries
    backend: Backend = lonely.backend
    for value in range(3):
        backend.mark_as_done(f"t{value}", value)
        assert kill_sessions(url) >= 1
        assert backend.get_task_meta(f"t{value}", cache=False)["result"] == value


def test_a_session_killed_under_a_statement_costs_one_repetition(backend: Backend) -> None:
    attempts: list[int] = []

    def work(conn: Conn) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return "done"

    assert backend.with_connection(work) == "done"
    assert len(attempts) == 2


@pytest.fixture
def restartable() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="baton-restart-"))
    folder.chmod(0o711)
    server = Postgres(folder)
    server.start()
    yield server
    server.stop()
    server.erase()
    shutil.rmtree(folder)


def test_a_restart_of_the_server_loses_no_result_and_no_waiter(
    lonely: Celery, restartable: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend(lonely, url=restartable.url)
    backend.mark_as_started("t")
    with ThreadPoolExecutor(2) as pool:
        waiter = pool.submit(AsyncResult("t", backend=backend, app=lonely).get, timeout=60)
        restartable.stop()
        storing = pool.submit(backend.mark_as_done, "t", "stored")
        # Both have noticed that nobody is there.
        eventually(lambda: "Postgres does not answer" in caplog.text)
        restartable.start()
        storing.result(60)
        assert waiter.result(60) == "stored"
    backend.close()


def test_a_fault_of_ours_is_not_repeated(backend: Backend) -> None:
    with pytest.raises(psycopg.errors.SyntaxError):
        backend.with_connection(lambda conn: conn.execute("SELEC"))
    assert backend.exception_safe_to_retry(psycopg.errors.AdminShutdown())
    assert not backend.exception_safe_to_retry(psycopg.errors.SyntaxError())


def test_waiters_outlive_the_sessions_of_the_server(canvas: Celery, key: str) -> None:
    result = canvas_app.reports.delay(key)
    eventually(lambda: result.state == "READING")
    assert kill_sessions(canvas.backend.url) >= 2
    canvas_app.note(key, "go on")
    assert result.get(timeout=20) == "read"
    assert chord([add.s(1, 1), add.s(2, 2)], total.s())().get(timeout=20) == 6


def test_a_solo_worker_runs_chords(canvas: Celery, processes: Processes, redis_url: str) -> None:
    env = {"CANVAS_BROKER": on_database(redis_url, 7), "CANVAS_DATABASE": canvas.backend.url}
    solo = processes.start(*worker_command("-P", "solo", "-Q", "solo"), name="solo", env=env)
    eventually(lambda: " ready." in solo.text(), timeout=40)
    header = [add.s(n, n).set(queue="solo") for n in range(5)]
    assert chord(header, total.s().set(queue="solo"))().get(timeout=20) == 20
