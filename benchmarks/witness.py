"""Somebody outside of both sides who sees when tasks start, and tells them when they may end: a Redis that lives on.

A token is `<round>-<number>`; a round is released as a whole.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import NamedTuple

import redis

ADDRESS = "BENCHMARK_WITNESS"


class Start(NamedTuple):
    """A task that began, where, and when (seconds of the epoch)."""

    token: str
    pid: int
    at: float


class Witness:
    """Safe to use from many threads and processes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._redis = redis.Redis.from_url(url, decode_responses=True)

    def started(self, token: str) -> None:
        self._redis.rpush("starts", f"{token} {os.getpid()} {time.time()}")

    def starts(self, tokens: set[str]) -> list[Start]:
        """The starts of these, in their order."""
        parts = (str(row).split() for row in self._redis.lrange("starts", 0, -1))
        return [Start(token, int(pid), float(at)) for token, pid, at in parts if token in tokens]

    def release(self, round_: int) -> None:
        """The tasks of this round may end."""
        self._redis.set(f"released {round_}", 1)

    def has_released(self, token: str) -> bool:
        return bool(self._redis.exists(f"released {token.partition('-')[0]}"))


@cache
def of_environment() -> Witness:
    """The one that a worker was told of."""
    return Witness(os.environ[ADDRESS])
