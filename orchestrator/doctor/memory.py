"""Can memory be searched by meaning, where the app wants that?"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from orchestrator.doctor.finding import Finding, ok, warn
from orchestrator.memory.vectors import OLDEST
from orchestrator.store.server_facts import VectorFacts, vector_facts
from schemas.memory import MemorySettings


def check(settings: MemorySettings | None, url: str, *, wanted: bool) -> list[Finding]:
    """Whether this Postgres compares the vectors that the app makes; nothing for an app that makes none."""
    if settings is None or settings.embedder is None:
        return []
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=5, application_name="baton") as conn:
            return list(vectors(vector_facts(conn), settings.embedder, wanted=wanted))
    except psycopg.Error:
        return []  # the checks of the server have said why


def vectors(facts: VectorFacts, embedder: str, *, wanted: bool) -> Iterator[Finding]:
    """Why memory is searched by words alone, if it is."""
    if not wanted:
        said = f"BATON_VECTORS is off: {embedder} is not used, and memory is searched by words."
        yield warn("memory", said, "unset BATON_VECTORS")
    elif facts.installed is None and not facts.known:
        said = f"This Postgres has no pgvector: {embedder} is not used, and memory is searched by words."
        yield warn(
            "memory", said, "install pgvector 0.8 on the server, such as Debian's postgresql-18-pgvector"
        )
    elif facts.installed is None and not facts.may_install:
        said = f"pgvector is not installed: {embedder} is not used, and memory is searched by words."
        yield warn("memory", said, "as a superuser, in this database: CREATE EXTENSION vector")
    elif facts.installed is None:
        yield ok("memory", "pgvector is on the server and is installed when it is first needed.")
    elif tuple(int(part) for part in facts.installed.split(".")[:2]) < OLDEST:
        said = f"pgvector {facts.installed} is too old: memory is searched by words."
        yield warn("memory", said, "upgrade it to 0.8 and: ALTER EXTENSION vector UPDATE")
    else:
        yield ok("memory", f"Memory is searched by words and, with pgvector {facts.installed}, by meaning.")
