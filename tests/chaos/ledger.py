"""The outside world: a service that Baton knows nothing of, which writes down every call that an agent makes.

It is a Redis of its own that no fault ever touches. A call carries the idempotency key of its step, as one would to
a bank: calls of one key may come again after a crash, their effect stands once. Its clock is the machine's, the same
as Postgres's, so a call can be compared with the time at which an outcome was accepted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import redis

from workers import Context

ADDRESS = "CHAOS_LEDGER"
"""The variable that tells agents where the ledger is."""

NODE = "CHAOS_NODE"
"""The variable that tells agents which worker they run in."""

_CALL = """
local now = redis.call('TIME')
redis.call('RPUSH', 'calls', cjson.encode({ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], now[1], now[2]}))
redis.call('HSETNX', 'effects', ARGV[1], ARGV[4])
return redis.call('HINCRBY', 'counts', ARGV[1], 1)
"""


class Call(NamedTuple):
    """One call as the ledger remembers it."""

    key: str
    attempt: int
    pid: int
    given: str
    """A digest of what the step was given."""
    at: float
    """Seconds of the epoch."""

    @property
    def step(self) -> tuple[UUID, str]:
        """The step that the key names."""
        run, _, path = self.key.partition(":")
        return UUID(run), path


def call(ctx: Context, given: Any) -> int:
    """Have the effect of this step; which call of its key this is, counted from 1."""
    digest = hashlib.sha256(repr(given).encode()).hexdigest()[:12]
    return int(_client().eval(_CALL, 0, ctx.idempotency_key, ctx.attempt, os.getpid(), digest))


_WEATHER = """
local now = redis.call('TIME')
local weather = redis.call('GET', 'weather') or (now[1] % 10 < 4 and 'stormy' or 'calm')
"""
_VISIT = f"""{_WEATHER}
redis.call('RPUSH', 'visits', cjson.encode({{ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], now[1], now[2]}}))
return weather
"""
CALM, STORMY = "calm", "stormy"
"""The weather outside: while it is stormy, services of the world do not work. Four of ten seconds are."""


class Visit(NamedTuple):
    """A tool, or a block of an agent, that had its effect: from when to when."""

    tool: str
    key: str
    """Run, path and place in the journal; of the next tool in a chain also where it stands there."""
    tenant: str
    node: str
    at: float
    """Seconds of the epoch."""
    left: float | None
    """None if it was cut off."""
    about: str = ""
    """What it was asked for."""
    failed: bool = False
    name: str = ""
    """Its own."""

    @property
    def step(self) -> tuple[UUID, str]:
        """The step that the key names."""
        run, path, *_ = self.key.split(":")
        return UUID(run), path

    @property
    def place(self) -> int:
        """Where the call stands in the journal of its step."""
        return int(self.key.split(":")[2])


class Inside(NamedTuple):
    """A visit, as whoever makes it sees it."""

    name: str
    is_stormy: bool


@contextmanager
def visit(tool: str, key: str, tenant: str, about: str = "") -> Iterator[Inside]:
    """Have an effect that takes as long as the block does."""
    name = uuid4().hex
    weather = _client().eval(_VISIT, 0, name, tool, key, tenant, os.environ.get(NODE, ""), about)
    try:
        yield Inside(name, weather == STORMY.encode())
    except Exception:
        _client().eval(_VISIT, 0, name, "failed", "", "", "", "")
        raise
    _client().eval(_VISIT, 0, name, "", "", "", "", "")


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ[ADDRESS])


class Ledger:
    """Reads what was written down."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._redis = redis.Redis.from_url(url)

    def calls(self) -> list[Call]:
        """All calls, in the order in which they came."""
        rows = (json.loads(row) for row in self._redis.lrange("calls", 0, -1))
        return [
            Call(key, attempt, pid, given, int(s) + int(us) / 1e6) for key, attempt, pid, given, s, us in rows
        ]

    def visits(self) -> list[Visit]:
        """All visits, in the order in which they began."""
        began: dict[str, Visit] = {}
        for row in self._redis.lrange("visits", 0, -1):
            name, tool, key, tenant, node, about, s, us = json.loads(row)
            at = int(s) + int(us) / 1e6
            known = began.get(name)
            if known:
                began[name] = known._replace(left=at, failed=tool == "failed")
            else:
                began[name] = Visit(tool, key, tenant, node, at, None, about, False, name)
        return list(began.values())

    def weather(self, weather: str | None) -> None:
        """Let it be calm or stormy from now on, or with None as the clock says."""
        if weather is None:
            self._redis.delete("weather")
        else:
            self._redis.set("weather", weather)

    @property
    def is_stormy(self) -> bool:
        return bool(self._redis.eval(f"{_WEATHER} return weather", 0) == STORMY.encode())

    def effects(self) -> int:
        """How many effects stand."""
        return int(self._redis.hlen("effects"))

    def clear(self) -> None:
        """Begin anew."""
        self._redis.flushall()

    def close(self) -> None:
        self._redis.close()
