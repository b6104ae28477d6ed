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
