"""Whether this server compares vectors, and the indexes that make that quick."""

from __future__ import annotations

import logging
import threading
import time

import psycopg
from psycopg import errors

from orchestrator.store import vector_queries as sql
from orchestrator.store.connect import Conn, Pool

log = logging.getLogger(__name__)

OLDEST = (0, 8)
"""The version of pgvector that is needed."""

INDEXED = 4_000
"""Dimensions that an index has room for; vectors of more are compared one by one."""

AGAIN = 60.0
"""Seconds after which it is tried again what a server could not, or would not."""

_REFUSED = (
    errors.InsufficientPrivilege,
    errors.FeatureNotSupported,  # its files are not there
    errors.UndefinedFile,
    errors.ReadOnlySqlTransaction,
    errors.UniqueViolation,  # somebody else makes it this very moment
    errors.DuplicateObject,
)


class Vectors:
    """What the server of one pool can do; safe from many threads."""

    def __init__(self, pool: Pool, *, wanted: bool = True) -> None:
        """Not `wanted`: as on a server that has no pgvector."""
        self._pool = pool
        self._wanted = wanted
        self._lock = threading.Lock()
        self._there = False
        self._indexed: set[str] = set()
        self._not_before: dict[str, float] = {}

    def there(self) -> bool:
        """Whether vectors can be compared; pgvector is installed if that is allowed."""
        if self._there or not self._wanted:
            return self._there
        with self._lock:  # whoever comes meanwhile waits for the answer
            if not self._there and self._due(""):
                with self._pool.connection() as conn:
                    self._there = version(conn) >= OLDEST or _installed(conn) >= OLDEST
                if not self._there:
                    log.warning(
                        "this Postgres compares no vectors, so memory is searched by words: baton doctor"
                    )
        return self._there

    def indexed(self, model: str, dimensions: int, *, make: bool = False) -> bool:
        """Whether the vectors of a model have an index; it is made if that is wanted and allowed."""
        if model in self._indexed or dimensions > INDEXED or not self._due(model):
            return model in self._indexed
        with self._pool.connection() as conn:
            if _has_index(conn, model) or (make and _made_index(conn, model, dimensions)):
                self._indexed.add(model)
        return model in self._indexed

    def _due(self, what: str) -> bool:
        now = time.monotonic()
        if now < self._not_before.get(what, 0.0):
            return False
        self._not_before[what] = now + AGAIN
        return True


def version(conn: Conn) -> tuple[int, ...]:
    """The version of pgvector that this session can use; an empty one if there is none."""
    row = conn.execute(sql.SELECT_VERSION).fetchone()
    return tuple(int(part) for part in row[0].split(".")[:2]) if row is not None else ()


def _installed(conn: Conn) -> tuple[int, ...]:
    """Its version, after we or somebody else at this moment have installed it if that is allowed."""
    try:
        conn.execute(sql.CREATE_EXTENSION)
    except _REFUSED as error:
        log.info("pgvector cannot be installed: %s", error.diag.message_primary)
    return version(conn)


def _has_index(conn: Conn, model: str) -> bool:
    return conn.execute(sql.SELECT_INDEX, {"index": sql.index_name(model)}).fetchone() is not None


def _made_index(conn: Conn, model: str, dimensions: int) -> bool:
    """Make the index unless somebody else does, or locks are in the way: then it is made another time."""
    try:
        with conn.transaction():
            conn.execute(sql.LIMIT_WAITING)
            if conn.execute(sql.TRY_INDEXING).fetchone() != (True,):
                return False
            conn.execute(sql.create_index(model, dimensions))
    except (errors.InsufficientPrivilege, errors.LockNotAvailable) as error:
        log.warning("memory has no index for %s: %s", model, error.diag.message_primary)
        return False
    except psycopg.errors.DuplicateTable:
        pass
    return True
