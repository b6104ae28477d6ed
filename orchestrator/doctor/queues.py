"""Is everything that lies in the queues a message of ours?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestrator.doctor.finding import Finding, fail, ok, warn
from orchestrator.doctor.places import is_redis
from orchestrator.messaging.broker import VISIBILITY_TIMEOUT

_OURS = ("agent.", "baton.")
_LOOKED_AT = 50  # messages of one queue
_LONGEST = 3600.0
_SHORTEST = 10.0  # seconds; below, Redis redelivers more often than workers finish


def check(url: str) -> list[Finding]:
    """All checks of the queues of a Redis; other brokers are not looked into."""
    if not is_redis(url):
        return []
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            return [*visibility(VISIBILITY_TIMEOUT), *_foreign(client), *_default_queue(client)]
    except (RedisError, OSError):
        return []  # `redis.check` has said why


def visibility(timeout: float) -> Iterator[Finding]:
    """Redis gives a message of a dead worker to another one only after this time."""
    if not _SHORTEST <= timeout <= _LONGEST:
        yield warn(
            "queues",
            f"The visibility timeout is {timeout:g} s.",
            f"set visibility_timeout in broker_transport_options to {_SHORTEST:g} to {_LONGEST:g} s",
        )


def _foreign(client: Any) -> Iterator[Finding]:
    strangers: dict[str, int] = {}
    for key in client.scan_iter(match="agent.*", count=1000, _type="list"):
        found = sum(not _is_ours(raw) for raw in client.lrange(key, 0, _LOOKED_AT - 1))
        if found:
            strangers[key.decode(errors="replace").partition("\x06")[0]] = found
    for queue, number in strangers.items():
        yield fail(
            "queues",
            f"{queue} holds {number} messages that are not Baton's, so another program publishes there.",
            "give that program another Redis database, e.g. /1 at the end of BATON_BROKER_URL",
        )
    if not strangers:
        yield ok("queues", "The queues hold messages of Baton only.")


def _default_queue(client: Any) -> Iterator[Finding]:
    if client.type("celery") == b"list":
        yield warn(
            "queues",
            f"{client.llen('celery')} messages lie in Celery's default queue, which no agent serves.",
            "look for a program that sends tasks without a queue, or shares this Redis database",
        )


def _is_ours(raw: bytes) -> bool:
    try:
        message = json.loads(raw)
        return str(message["headers"]["task"]).startswith(_OURS)
    except (ValueError, KeyError, TypeError):
        return False
