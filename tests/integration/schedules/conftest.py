"""A producer that sets schedules, and a bench whose timers fire them, on a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.client import Client
from tests.integration.results.conftest import on_database


@pytest.fixture
def client(migrated: str, redis_url: str) -> Iterator[Client]:
    with Client(migrated, on_database(redis_url, 12)) as made:
        yield made
