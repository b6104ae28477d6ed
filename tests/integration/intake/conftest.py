"""A producer, and an engine that stands for the workers, on a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from orchestrator.client import Client
from tests.integration.results.conftest import on_database


@pytest.fixture
def migrated(migrated: str) -> str:
    """With a table `orders` of the caller's."""
    with psycopg.connect(migrated, autocommit=True) as conn:
        conn.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    return migrated


@pytest.fixture
def client(migrated: str, redis_url: str) -> Iterator[Client]:
    with Client(migrated, on_database(redis_url, 11)) as made:
        yield made
