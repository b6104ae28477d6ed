"""Does the broker answer, and does it keep messages until they are taken?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.doctor.finding import Finding, fail, first_line, ok, warn
from orchestrator.doctor.places import is_redis

_OLDEST = (6, 0)


def check(url: str, breakers_url: str | None = None) -> list[Finding]:
    """All checks of the broker at `url`, and of the Redis of the circuit breakers where that is another one."""
    if is_redis(url):
        return _redis(url)
    return [_other(url), *_breakers(breakers_url)]


def _breakers(url: str | None) -> Iterator[Finding]:
    from redis import Redis
    from redis.exceptions import RedisError

    if not url:
        yield warn(
            "breakers",
            "The broker is no Redis, so circuit breakers let everything through.",
            "set BATON_BREAKERS_URL=redis://host:6379/0, if your agents have any",
        )
        return
    try:
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        sentence = f"The Redis of the circuit breakers does not let us in: {first_line(error)}."
        yield fail("breakers", sentence, "start the server, or mend BATON_BREAKERS_URL")
    else:
        yield ok("breakers", "The Redis of the circuit breakers answers.")


def _redis(url: str) -> list[Finding]:
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True) as client:
            client.ping()
            info: dict[str, Any] = client.info()
            return [*_version(info), *_role(info), *_policy(client, info), *_disk(info)]
    except (RedisError, OSError) as error:
        return [_unreachable(error)]


def _unreachable(error: Exception) -> Finding:
    message = str(error).lower()
    sentence = f"Redis does not let us in: {first_line(error)}."
    if "auth" in message or "wrongpass" in message or "password" in message or "noperm" in message:
        return fail("redis", sentence, "mend the user and password in BATON_BROKER_URL")
    if "db index" in message:
        return fail("redis", sentence, "name a smaller database number at the end of BATON_BROKER_URL")
    if "ssl" in message or "certificate" in message:
        return fail(
            "redis", sentence, "use rediss:// for TLS and redis:// without, with a trusted certificate"
        )
    if "loading" in message:
        return fail("redis", sentence, "wait until Redis has loaded its data")
    return fail("redis", sentence, "start the server, or mend the host and port in BATON_BROKER_URL")


def _version(info: dict[str, Any]) -> Iterator[Finding]:
    shown = str(info["redis_version"])
    if tuple(int(part) for part in shown.split(".")[:2]) < _OLDEST:
        yield fail("redis", f"Redis is version {shown}; Celery needs 6.", "upgrade the server")
    else:
        yield ok("redis", f"Redis {shown} answers.")


def _role(info: dict[str, Any]) -> Iterator[Finding]:
    if info.get("role") != "master":
        yield fail("redis", "This Redis is a read-only replica.", "name the primary in BATON_BROKER_URL")


def _policy(client: Any, info: dict[str, Any]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield fail(
            "redis",
            f"maxmemory-policy is {policy}: a full Redis throws messages away and says nothing.",
            "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
        )
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if most and used > 0.9 * most:
        yield warn(
            "redis",
            f"Redis uses {used / most:.0%} of its maxmemory; when it is full it refuses messages.",
            "raise maxmemory, or remove what else is in this Redis",
        )


def _disk(info: dict[str, Any]) -> Iterator[Finding]:
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield warn(
            "redis",
            "The last snapshot failed, and Redis may refuse every write until one succeeds.",
            "make room on its disk, or CONFIG SET stop-writes-on-bgsave-error no",
        )


def _other(url: str) -> Finding:
    from kombu.connection import Connection
    from kombu.exceptions import OperationalError

    fix = "start the server, or mend BATON_BROKER_URL"
    connect: Any = Connection  # it has no types
    try:
        with connect(url, connect_timeout=5) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except (OperationalError, OSError) as error:
        return fail("broker", f"The broker does not let us in: {first_line(error)}.", fix)
    return ok("broker", "The broker answers.")
