"""Databases with all tables, and benches on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.store.schema import upgrade
from tests.integration.engine.bench import Bench
from tests.support import Databases


@pytest.fixture
def migrated(databases: Databases) -> Iterator[str]:
    """The URL of a database with all tables, of this test alone."""
    url = databases.create(databases.template("migrated", upgrade))
    yield url
    databases.drop(url)


@pytest.fixture
def bench(migrated: str) -> Iterator[Bench]:
    """One engine on a database of this test alone."""
    made = Bench(migrated)
    yield made
    made.close()


@pytest.fixture
def crowd(migrated: str) -> Iterator[Bench]:
    """Three engines on one database."""
    made = Bench(migrated, engines=3)
    yield made
    made.close()
