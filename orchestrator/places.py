"""Where this process finds its servers."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from schemas.errors import Unavailable
from schemas.settings import settings

REDIS = ("redis", "rediss")
_POSTGRES = ("postgresql", "postgres")
_BROKERS = (*REDIS, "amqp", "amqps", "pyamqp")

DATABASE_LIKE = "BATON_DATABASE_URL=postgresql://user:password@host:5432/name"
BROKER_LIKE = "BATON_BROKER_URL=redis://:password@host:6379/0"


class Places(NamedTuple):
    """The URLs of Postgres and of the broker."""

    database_url: str
    broker_url: str

    @property
    def breakers_url(self) -> str:
        """Where circuit breakers stand, if it is a Redis; the broker may be none."""
        return settings().breakers_url or self.broker_url


def find(database_url: str | None = None, broker_url: str | None = None) -> Places:
    """The URLs given, else those of the environment, else those of the servers that `baton up` runs here.

    Raises `Unavailable` when none of these names both servers, or one is no such address.
    """
    given = settings()
    database_url = database_url or given.database_url
    broker_url = broker_url or given.broker_url
    if not (database_url and broker_url):
        from orchestrator.local.servers import current

        urls = current(given.data_dir)
        if urls is None:
            names = {"BATON_DATABASE_URL": database_url, "BATON_BROKER_URL": broker_url}
            missing = " and ".join(name for name, url in names.items() if not url)
            raise Unavailable(
                f"no servers: {missing} not set, and no stack runs in {given.data_dir}", next_step="baton up"
            )
        database_url, broker_url = database_url or urls.database_url, broker_url or urls.broker_url
    if wrong := wrong_database(database_url):
        raise Unavailable(wrong, next_step=f"set {DATABASE_LIKE}")
    if wrong := wrong_broker(broker_url):
        raise Unavailable(wrong, next_step=f"set {BROKER_LIKE}")
    return Places(database_url, broker_url)


def wrong_database(url: str) -> str:
    """What keeps it from being the URL of a Postgres; nothing if it may be one."""
    scheme = url.partition(":")[0] if "://" in url else ""
    if scheme in _POSTGRES:
        return ""
    if scheme.startswith("postgresql+"):
        return f"BATON_DATABASE_URL has SQLAlchemy's scheme {scheme!r}; it is a plain address"
    return f"BATON_DATABASE_URL has the scheme {scheme or 'of nothing'!r}, so it is not a Postgres address"


def wrong_broker(url: str) -> str:
    """What keeps it from being the URL of a broker; nothing if it may be one."""
    try:
        parts = urlsplit(url.partition(";")[0])  # Celery takes several, of which it tries the next
        scheme, _ = parts.scheme, parts.port
    except ValueError as error:
        return f"BATON_BROKER_URL is not a URL: {error}"
    if scheme not in _BROKERS:
        return f"BATON_BROKER_URL has the scheme {scheme or 'of nothing'!r}, so it is not a broker's address"
    database = parts.path.strip("/")
    if scheme in REDIS and database and not database.isdigit():
        return f"BATON_BROKER_URL ends in {database!r}, but a Redis database is a number"
    return ""
