"""Does Postgres answer, and does it keep what it was given?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg

from orchestrator.doctor.finding import Finding, fail, first_line, ok, warn
from orchestrator.store import schema
from orchestrator.store.server_facts import ServerFacts, server_facts

_OLDEST = 150000
_CONNECTIONS = 50
_FULL = 0.8  # share of the connections
_SKEW = timedelta(seconds=2)


def check(url: str, *, pool_size: int) -> list[Finding]:
    """All checks of a Postgres at `url`."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5, application_name="baton") as conn:
            before = datetime.now(UTC)
            facts = server_facts(conn)
            middle = before + (datetime.now(UTC) - before) / 2
        return [
            *version(facts),
            *writable(facts),
            *durable(facts),
            *encoding(facts),
            *connections(facts, pool_size),
            *clock(facts, middle),
            *_tables(facts, url),
        ]
    except psycopg.Error as error:
        return [unreachable(error)]


def unreachable(error: psycopg.Error) -> Finding:
    """Why there is no connection, from the words of the driver and the server."""
    message = str(error)
    sentence = f"Postgres does not let us in: {first_line(error)}."
    if "password" in message or "authentication failed" in message:
        return fail("postgres", sentence, "mend the user and password in BATON_DATABASE_URL")
    if "pg_hba.conf" in message:
        return fail("postgres", sentence, "allow this host and user in the server's pg_hba.conf")
    if "does not exist" in message:
        return fail("postgres", sentence, "create the database or role, or mend BATON_DATABASE_URL")
    if "too many clients" in message or "remaining connection slots" in message:
        return fail("postgres", sentence, "raise max_connections, or lower BATON_POOL_SIZE")
    return fail("postgres", sentence, "start the server, or mend the host and port in BATON_DATABASE_URL")


def version(facts: ServerFacts) -> Iterator[Finding]:
    """Postgres 15 has what the statements need."""
    shown = f"{facts.version // 10000}.{facts.version % 10000}"
    if facts.version < _OLDEST:
        yield fail("postgres", f"Postgres is version {shown}; Baton needs 15.", "upgrade the server")
    else:
        yield ok("postgres", f"Postgres {shown} answers.")


def writable(facts: ServerFacts) -> Iterator[Finding]:
    """A standby refuses every run."""
    if facts.standby:
        fix = "name the primary in BATON_DATABASE_URL"
        yield fail("postgres", "This Postgres is a read-only standby.", fix)
    elif facts.read_only:
        fix = f"set default_transaction_read_only = off for the database {facts.database} and its users"
        yield fail("postgres", "Transactions are read-only by default here.", fix)


def durable(facts: ServerFacts) -> Iterator[Finding]:
    """A commit that the disk has not seen is not a checkpoint."""
    settings = {
        "fsync": facts.fsync,
        "full_page_writes": facts.full_page_writes,
        "synchronous_commit": facts.synchronous_commit,
    }
    off = [name for name, value in settings.items() if value == "off"]
    for name in off:
        yield fail(
            "durability",
            f"{name} is off: a crash of the server can lose runs that were accepted.",
            f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();",
        )
    if not off:
        yield ok("durability", "Commits reach the disk before they are acknowledged.")


def encoding(facts: ServerFacts) -> Iterator[Finding]:
    """Inputs and outputs are texts of any language."""
    if facts.encoding != "UTF8":
        yield fail(
            "postgres",
            f"The database stores {facts.encoding}, which cannot hold every text.",
            "create it again with ENCODING 'UTF8' TEMPLATE template0",
        )


def connections(facts: ServerFacts, pool_size: int) -> Iterator[Finding]:
    """Every process of Baton holds up to `pool_size` connections, and one more to listen."""
    most, used = facts.max_connections, facts.connections
    processes = most // (pool_size + 1)
    if most < _CONNECTIONS:
        yield warn(
            "connections",
            f"max_connections is {most}: enough for about {processes} processes.",
            "ALTER SYSTEM SET max_connections = 200; and restart the server",
        )
    elif used > most * _FULL:
        yield warn(
            "connections",
            f"{used} of {most} connections are in use.",
            "raise max_connections, or put a pooler in front of Postgres",
        )
    else:
        yield ok("connections", f"{used} of {most} connections are in use; {processes} processes fit.")


def clock(facts: ServerFacts, here: datetime) -> Iterator[Finding]:
    """Only Postgres's clock decides anything, but people compare it with their own."""
    skew = abs(facts.clock - here)
    if skew > _SKEW:
        yield warn(
            "clock",
            f"The clock of Postgres is {skew.total_seconds():.1f} s off this machine's: shown times mislead.",
            "synchronise both with NTP",
        )
    else:
        yield ok("clock", "The clocks of Postgres and this machine agree.")


def _tables(facts: ServerFacts, url: str) -> Iterator[Finding]:
    found, wanted = schema.revision(url), schema.head()
    if found == wanted:
        yield ok("tables", f"The tables are at revision {found}.")
        return
    state = f"at revision {found}" if found else "missing"
    yield fail("tables", f"The tables are {state}; this version needs {wanted}.", "baton db upgrade")
    if not facts.may_create:
        yield fail(
            "tables",
            f"The user {facts.user!r} may not create tables.",
            f'as the owner: GRANT CREATE, USAGE ON SCHEMA public TO "{facts.user}"',
        )
