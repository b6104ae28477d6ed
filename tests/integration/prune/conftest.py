"""A database with runs of every age and ending."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store.schema import upgrade
from tests.integration.results.conftest import on_database
from tests.integration.worker.stack import Stack
from tests.support import Databases, Processes


@pytest.fixture
def alone(redis_url: str, databases: Databases, tmp_path: Path) -> Iterator[Stack]:
    """Servers for workers that a test starts."""
    url = databases.create(databases.template("migrated", upgrade))
    stack = Stack(Processes(tmp_path), url, on_database(redis_url, 12))
    stack.redis().flushdb()
    yield stack
    stack.close()
    databases.drop(url)
