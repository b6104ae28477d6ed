"""Databases with all tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.store.schema import upgrade
from tests.support import Databases


@pytest.fixture(scope="module")
def migrated(databases: Databases) -> Iterator[str]:
    """The URL of a database with all tables, of this file alone."""
    url = databases.create(databases.template("migrated", upgrade))
    yield url
    databases.drop(url)
