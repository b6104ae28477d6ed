"""Databases with all tables, and who acts on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis.internal.conjecture import providers

from orchestrator.store.schema import upgrade
from tests.chaos.engine.machine import Moves, Office
from tests.chaos.engine.stage import Stage
from tests.support import Databases


@pytest.fixture(autouse=True)
def searched_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a derandomized search tries depends on its test alone.

    Hypothesis also draws on the constants of all loaded modules: whoever changed one anywhere would change whether a
    rare fault is found.
    """
    monkeypatch.setattr(providers, "_get_local_constants", providers.Constants)


@pytest.fixture(scope="module")
def migrated(databases: Databases) -> Iterator[str]:
    """The URL of a database with all tables, of this file alone."""
    url = databases.create(databases.template("migrated", upgrade))
    yield url
    databases.drop(url)


@pytest.fixture(scope="module")
def stage(migrated: str) -> Iterator[Stage]:
    made = Stage(migrated)
    yield made
    made.close()


@pytest.fixture(scope="module")
def office(migrated: str) -> Iterator[Office]:
    made = Office(migrated)
    Moves.office = made
    yield made
    made.close()
