"""Real servers for the tests: one PostgreSQL and one Redis per session, in a folder of their own.

A missing server fails the test, it never skips it. Several sessions may run at the same time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.local.postgres import Postgres
from orchestrator.local.redis import Redis
from schemas.settings import settings
from tests.support import Databases, Processes


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    """Options of a command that a test calls in this process are settings of that test alone."""
    before = _settings()
    yield
    if (after := _settings()) != before:
        for name in after.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
    settings.cache_clear()  # what a test has set for itself is gone from the environment, but not from there


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("BATON_")}


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A short folder that any user can enter, unlike pytest's own: Postgres does not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="baton-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _postgres(session_dir: Path) -> Iterator[Postgres]:
    server = Postgres(session_dir)
    server.start()
    yield server
    server.stop()
    server.erase()


@pytest.fixture(scope="session")
def postgres_url(_postgres: Postgres) -> str:
    """A database that all tests of this session share, empty at its start."""
    return _postgres.url


@pytest.fixture(scope="session")
def databases(_postgres: Postgres) -> Iterator[Databases]:
    """Creates further databases; see `tests.support.Databases`."""
    made = Databases(_postgres)
    yield made
    made.close()


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """The URL of an empty database of this test alone."""
    url = databases.create()
    yield url
    databases.drop(url)


@pytest.fixture(scope="session")
def redis_url(session_dir: Path) -> Iterator[str]:
    """A Redis that all tests of this session share."""
    server = Redis(session_dir)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def broker(redis_url: str) -> str:
    """The URL of the session's Redis, emptied for this test."""
    from redis import Redis as Client

    with Client.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes, none of which survives the test."""
    started = Processes(tmp_path)
    yield started
    started.end_all()
