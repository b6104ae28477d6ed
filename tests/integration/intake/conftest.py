"""A producer, and an engine that stands for the workers, on a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from orchestrator.client import Client
from orchestrator.store.schema import upgrade
from tests.integration.engine.bench import Bench
from tests.integration.results.conftest import on_database
from tests.support import Databases


@pytest.fixture
def migrated(databases: Databases) -> Iterator[str]:
    """The URL of a database with all tables, and a table `orders` of the caller's."""
    url = databases.create(databases.template("migrated", upgrade))
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    yield url
    databases.drop(url)


@pytest.fixture
def bench(migrated: str) -> Iterator[Bench]:
    """Engines that claim and record in the place of workers, and questions to the database."""
    made = Bench(migrated)
    yield made
    made.close()


@pytest.fixture
def client(migrated: str, redis_url: str) -> Iterator[Client]:
    with Client(migrated, on_database(redis_url, 11)) as made:
        yield made
