"""A producer that emits events, and a bench whose timers deliver them, on a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.client import Client
from orchestrator.store.schema import upgrade
from tests.integration.engine.bench import Bench
from tests.integration.results.conftest import on_database
from tests.support import Databases


@pytest.fixture
def migrated(databases: Databases) -> Iterator[str]:
    """The URL of a database with all tables, of this test alone."""
    url = databases.create(databases.template("migrated", upgrade))
    yield url
    databases.drop(url)


@pytest.fixture
def bench(migrated: str) -> Iterator[Bench]:
    made = Bench(migrated)
    yield made
    made.close()


@pytest.fixture
def client(migrated: str, redis_url: str) -> Iterator[Client]:
    with Client(migrated, on_database(redis_url, 11)) as made:
        yield made
