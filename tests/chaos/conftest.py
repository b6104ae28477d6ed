"""One set of servers for all chaos of a session, and an arena with a fresh database for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.arena import Arena, Servers
from tests.support import Processes


@pytest.fixture(scope="session")
def servers(session_dir: Path) -> Iterator[Servers]:
    """A Postgres, a Redis and a ledger that nobody else uses."""
    folder = session_dir / "chaos"
    folder.mkdir(mode=0o711)
    made = Servers(folder)
    yield made
    made.stop()


@pytest.fixture
def arena(servers: Servers, tmp_path: Path) -> Iterator[Arena]:
    """No worker yet."""
    made = Arena(servers, Processes(tmp_path))
    yield made
    made.close()
