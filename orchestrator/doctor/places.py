"""Are the addresses there, and are they addresses of the right kind?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from orchestrator.doctor.finding import Finding, fail, ok

_POSTGRES = ("postgresql", "postgres")
_REDIS = ("redis", "rediss")
_BROKERS = (*_REDIS, "amqp", "amqps", "pyamqp")


class Addresses(NamedTuple):
    """The URLs that are worth a connection; None for one that is missing or wrong."""

    database_url: str | None
    broker_url: str | None


def check(database: str | None, broker: str | None, data_dir: Path) -> tuple[list[Finding], Addresses]:
    """Look at the URLs themselves; those not given are looked for in the data folder."""
    findings: list[Finding] = []
    if not (database and broker):
        database, broker, finding = _local(database, broker, data_dir)
        findings.append(finding)
    wrong_database = database is not None and _wrong_database(database)
    if wrong_database:
        findings.append(
            fail(
                "addresses",
                wrong_database,
                "set BATON_DATABASE_URL=postgresql://user:password@host:5432/name",
            )
        )
    wrong_broker = broker is not None and _wrong_broker(broker)
    if wrong_broker:
        findings.append(fail("addresses", wrong_broker, "set BATON_BROKER_URL=redis://:password@host:6379/0"))
    return findings, Addresses(None if wrong_database else database, None if wrong_broker else broker)


def is_redis(url: str) -> bool:
    """Whether the broker is a Redis."""
    return urlsplit(url).scheme in _REDIS


def _local(database: str | None, broker: str | None, folder: Path) -> tuple[str | None, str | None, Finding]:
    from orchestrator.local.servers import current

    missing = [
        name for name, url in (("BATON_DATABASE_URL", database), ("BATON_BROKER_URL", broker)) if not url
    ]
    urls = current(folder)
    if urls is None:
        sentence = f"{' and '.join(missing)} not set, and no servers run in {folder}."
        return (
            database,
            broker,
            fail("addresses", sentence, "start some with `baton up`, or set the variables"),
        )
    found = ok("addresses", f"The servers that run in {folder} are used.")
    return database or urls.database_url, broker or urls.broker_url, found


def _wrong_database(url: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme in _POSTGRES:
        return ""
    if scheme.startswith("postgresql+"):
        return f"BATON_DATABASE_URL has SQLAlchemy's scheme {scheme!r}; it is a plain address."
    return f"BATON_DATABASE_URL has the scheme {scheme or 'of nothing'!r}, so it is not a Postgres address."


def _wrong_broker(url: str) -> str:
    try:
        parts = urlsplit(url)
        scheme, _ = parts.scheme, parts.port
    except ValueError as error:
        return f"BATON_BROKER_URL is not a URL: {error}."
    if scheme not in _BROKERS:
        return f"BATON_BROKER_URL has the scheme {scheme or 'of nothing'!r}, so it is not a broker's address."
    database = parts.path.strip("/")
    if scheme in _REDIS and database and not database.isdigit():
        return f"BATON_BROKER_URL ends in {database!r}, but a Redis database is a number."
    return ""
