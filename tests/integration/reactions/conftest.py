"""A producer that emits events, and a bench whose timers deliver them, on a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.client import Client
from tests.integration.results.conftest import on_database


@pytest.fixture
def client(migrated: str, redis_url: str) -> Iterator[Client]:
    with Client(migrated, on_database(redis_url, 11)) as made:
        yield made
