"""Two real workers, one prefork and one of threads, share the queue of all these tests."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from orchestrator.results import Backend
from tests.integration.results import canvas_app
from tests.support import Databases, Processes, eventually


@pytest.fixture(scope="session")
def canvas_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canvas")


@pytest.fixture(scope="session")
def canvas(redis_url: str, databases: Databases, canvas_folder: Path) -> Iterator[Celery]:
    """The app of `canvas_app`, with its workers running."""
    # A Redis database of their own: other tests may empty theirs.
    broker, url = on_database(redis_url, 7), databases.create()
    canvas_app.configure(broker, url)
    processes = Processes(canvas_folder)
    env = {"CANVAS_BROKER": broker, "CANVAS_DATABASE": url}
    started = [
        processes.start(*worker_command("-P", pool, "-c", str(width)), name=pool, env=env)
        for pool, width in (("prefork", 2), ("threads", 3))
    ]
    for worker in started:
        eventually(lambda worker=worker: " ready." in worker.text(), timeout=40)
    yield canvas_app.app
    canvas_app.app.backend.close()
    canvas_app.app.close()
    processes.end_all()


def on_database(redis_url: str, number: int) -> str:
    """The address of another database on the same Redis."""
    if redis_url.startswith("redis+socket:"):
        return f"{redis_url}?virtual_host={number}"
    if redis_url.startswith("unix:"):
        return f"{redis_url}?db={number}"
    return f"{redis_url.rstrip('/').removesuffix('/0')}/{number}"


def worker_command(*args: str) -> tuple[str, ...]:
    """The command line of a quickly started worker on `canvas_app`."""
    quick = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO")
    module = "tests.integration.results.canvas_app"
    name = f"{uuid.uuid4().hex[:8]}@localhost"
    return (sys.executable, "-W", "ignore", "-m", "celery", "-A", module, "worker", "-n", name, *quick, *args)


@pytest.fixture
def url(database: str) -> str:
    """A database of this test alone, without tables."""
    return database


@pytest.fixture
def lonely(url: str) -> Iterator[Celery]:
    """An app with the backend on a fresh database; it has no worker, and its broker is memory."""
    app = Celery("lonely", broker="memory://", set_as_current=False)
    app.conf.result_backend = f"orchestrator.results:Backend+{url}"
    app.conf.result_backend_transport_options = {"create_tables": True}
    yield app
    app.backend.close()
    app.close()


@pytest.fixture
def backend(lonely: Celery) -> Backend:
    return lonely.backend


@pytest.fixture
def key() -> str:
    """A fresh name, for traces that tasks leave."""
    return f"trace-{uuid.uuid4().hex}"
