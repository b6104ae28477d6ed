"""One worker of threads and one of processes that all well-behaved tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.loading import load
from orchestrator.store.schema import upgrade
from schemas.intake import SUBMIT
from tests.integration.results.conftest import on_database
from tests.integration.worker.stack import APP, Stack, ready
from tests.support import Databases, Processes

FORKED = tuple(name for name in load(APP).specs if name.startswith("forked_"))
THREADED = [name for name in load(APP).specs if name not in (*FORKED, "unserved", "slow", "gated", "fatal")]


@pytest.fixture(scope="session")
def shared(redis_url: str, databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Workers that run all through the session; tests must leave them alive."""
    url = databases.create(databases.template("migrated", upgrade))
    stack = Stack(Processes(tmp_path_factory.mktemp("shared")), url, on_database(redis_url, 5))
    workers = [
        stack.begin(*THREADED, SUBMIT, concurrency=110),
        stack.begin(*FORKED, SUBMIT, pool="prefork", concurrency=2),
    ]
    for worker in workers:
        ready(worker)
    yield stack
    alive = [worker.alive for worker in workers]
    stack.close()
    assert all(alive)


@pytest.fixture
def alone(redis_url: str, databases: Databases, tmp_path: Path) -> Iterator[Stack]:
    """No worker yet: a test that kills some starts its own."""
    url = databases.create(databases.template("migrated", upgrade))
    stack = Stack(Processes(tmp_path), url, on_database(redis_url, 6))
    stack.redis().flushdb()
    yield stack
    stack.close()
    databases.drop(url)
