"""Reads what a side has consumed so far: processor time, transactions, write-ahead log, Redis commands."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
from redis import Redis

LAG = 4.0
"""Seconds until the sessions of a worker have told Postgres their counts: they do so with their next sweep."""


@dataclass(frozen=True)
class Reading:
    """Totals at one moment, or the difference of two; processor time in seconds."""

    seconds: float = 0.0
    worker: float = 0.0
    client: float = 0.0
    postgres: float = 0.0
    redis: float = 0.0
    commands: float = 0.0
    """Redis commands."""
    writes: float = 0.0
    """Transactions of Postgres that wrote."""
    wal: float = 0.0
    """Bytes of write-ahead log."""
    flushes: float = 0.0
    """Times that a session waited for the disk; known only after `LAG` seconds."""
    busy: float = 0.0
    """Seconds that Postgres spent in statements; known only after `LAG` seconds."""

    def __sub__(self, other: Self) -> Self:
        return type(self)(**{name: getattr(self, name) - getattr(other, name) for name in _FIELDS})

    def __add__(self, other: Self) -> Self:
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in _FIELDS})

    def __mul__(self, factor: float) -> Self:
        return type(self)(**{name: getattr(self, name) * factor for name in _FIELDS})

    @property
    def cpu(self) -> float:
        """Seconds of all processes together."""
        return self.worker + self.client + self.postgres + self.redis


_FIELDS = [field.name for field in fields(Reading)]


class Meter:
    """Reads one side's worker, this very process as its client, its Redis and, if it has one, its Postgres."""

    def __init__(self, worker: psutil.Process, redis_url: str, database_url: str | None = None) -> None:
        self._worker = worker
        self._redis = Redis.from_url(redis_url)
        self._conn = psycopg.connect(database_url, autocommit=True) if database_url else None
        self._postmaster = _postmaster(self._conn) if self._conn is not None else None

    def read(self) -> Reading:
        """The totals now."""
        stats, cpu = _info(self._redis, "stats"), _info(self._redis, "cpu")
        reading = Reading(
            seconds=time.monotonic(),
            worker=_cpu(self._worker),
            client=_cpu(psutil.Process()),
            redis=cpu["used_cpu_user"] + cpu["used_cpu_sys"],
            commands=stats["total_commands_processed"],
        )
        return reading if self._conn is None else reading + self._read_postgres(self._conn)

    def peak_memory(self) -> float:
        """The most megabytes that the worker process has held."""
        for line in Path(f"/proc/{self._worker.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return self._worker.memory_info().rss / 2**20

    def close(self) -> None:
        self._redis.close()
        if self._conn is not None:
            self._conn.close()

    def _read_postgres(self, conn: psycopg.Connection[Any]) -> Reading:
        assert self._postmaster is not None
        row = conn.execute(_COUNTS).fetchone()
        assert row is not None
        wal, writes, flushes, busy = map(float, row)
        return Reading(
            postgres=_family_cpu(self._postmaster), wal=wal, writes=writes, flushes=flushes, busy=busy
        )


_COUNTS = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       (SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io
        WHERE object = 'wal' AND backend_type = 'client backend'),
       (SELECT active_time / 1000 FROM pg_stat_database WHERE datname = current_database())
"""


def _postmaster(conn: psycopg.Connection[Any]) -> psutil.Process:
    parent = psutil.Process(conn.info.backend_pid).parent()
    assert parent is not None
    return parent


def _info(redis: Redis, section: str) -> dict[str, float]:
    info: Any = redis.info(section)
    return dict(info)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _family_cpu(parent: psutil.Process) -> float:
    """A server with its sessions, those that have ended too."""
    times = parent.cpu_times()
    used = times.user + times.system + times.children_user + times.children_system
    for child in parent.children():
        try:
            used += _cpu(child)
        except psutil.Error:
            continue
    return used
