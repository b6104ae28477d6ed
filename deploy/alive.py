"""Exit with 0 if Postgres has a fresh heartbeat of a worker on this host: the probe of a worker's container.

The heartbeat comes from the process that consumes messages, so a worker that is up but deaf is not alive.
When Postgres is away every worker fails this probe, so use it to show and to route, not to restart at once.
"""

from __future__ import annotations

import socket
import sys

import psycopg

from orchestrator.store.view_queries import SELECT_WORKERS
from schemas.settings import settings

MANY = 10_000


def alive(database_url: str, host: str) -> bool:
    """Does a living worker have a name that ends with `@host`?"""
    with psycopg.connect(database_url, connect_timeout=3, row_factory=psycopg.rows.dict_row) as connection:
        workers = connection.execute(SELECT_WORKERS, {"limit": MANY, "all": False})
        return any(worker["alive"] and worker["name"].endswith(f"@{host}") for worker in workers)


def main() -> int:
    url, host = settings().database_url, socket.gethostname()
    if url is None:
        print("BATON_DATABASE_URL is not set.", file=sys.stderr)
        return 1
    try:
        fresh = alive(url, host)
    except psycopg.Error as error:
        print(f"Postgres does not answer: {error}", file=sys.stderr)
        return 1
    if not fresh:
        print(f"No worker named …@{host} has a fresh heartbeat.", file=sys.stderr)
    return 0 if fresh else 1


if __name__ == "__main__":
    sys.exit(main())
