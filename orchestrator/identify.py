"""Run ids: UUIDs of version 7 (RFC 9562), so that new rows lie together in the index."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> UUID:
    """A new id: 48 bits of milliseconds since 1970, then version, variant and 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return UUID(int=value)


def child_ids(parent: UUID, count: int) -> list[UUID]:
    """New ids for runs that a run starts: they end as its own does, so a run and all below it share one lock.

    See `orchestrator.engine.run_locks`. The other 42 random bits count up within a batch, so its ids differ.
    """
    milliseconds = time.time_ns() // 1_000_000
    start = int.from_bytes(os.urandom(6)) >> 6
    return [UUID(int=_child(milliseconds, (start + n) % (1 << 42), parent.int)) for n in range(count)]


def _child(milliseconds: int, number: int, parent: int) -> int:
    version = 0x7 << 76 | (number >> 30) << 64
    variant = 0x2 << 62 | (number & (1 << 30) - 1) << 32
    return milliseconds << 80 | version | variant | parent & (1 << 32) - 1
