"""Are the addresses there, and are they addresses of the right kind?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from orchestrator.doctor.finding import Finding, fail, ok
from orchestrator.places import BROKER_LIKE, DATABASE_LIKE, REDIS, wrong_broker, wrong_database


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
    bad_database, bad_broker = wrong_database(database or ""), wrong_broker(broker or "")
    if database and bad_database:
        findings.append(fail("addresses", f"{bad_database}.", f"set {DATABASE_LIKE}"))
    if broker and bad_broker:
        findings.append(fail("addresses", f"{bad_broker}.", f"set {BROKER_LIKE}"))
    return findings, Addresses(None if bad_database else database, None if bad_broker else broker)


def is_redis(url: str) -> bool:
    """Whether the broker is a Redis."""
    return urlsplit(url).scheme in REDIS


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
