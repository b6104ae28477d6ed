"""Servers for the time of the benchmarks: a Postgres and a Redis for Baton, a Redis of its own for plain Celery."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks.compare import Servers
from orchestrator.local import servers as local
from orchestrator.local.redis import Redis

FLUSH = 2_000
"""Microseconds that a slow disk takes longer."""


@contextmanager
def folder() -> Iterator[Path]:
    """A short folder that any user can enter, since Postgres does not run as root."""
    made = Path(tempfile.mkdtemp(prefix="baton-bench-"))
    made.chmod(0o711)
    try:
        yield made
    finally:
        local.erase(made)
        shutil.rmtree(made)


@contextmanager
def embedded(place: Path, *, slow_disk: bool = False) -> Iterator[Servers]:
    """Empty servers in a folder, which end with this block."""
    (place / "plain").mkdir()
    plain = Redis(place / "plain")
    plain.start()
    try:
        with local.Servers(place) as own:
            if slow_disk:
                _slow_down(own.database_url)
            yield Servers(own.database_url, own.broker_url, plain.url)
    finally:
        plain.stop()


def _slow_down(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"ALTER SYSTEM SET commit_delay = {FLUSH}")
        conn.execute("ALTER SYSTEM SET commit_siblings = 0")
        conn.execute("SELECT pg_reload_conf()")
