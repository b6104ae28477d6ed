"""Where this process finds its servers."""

from __future__ import annotations

from typing import NamedTuple

from schemas.errors import Unavailable
from schemas.settings import settings


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

    Raises `Unavailable` when none of these names both servers.
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
    return Places(database_url, broker_url)
