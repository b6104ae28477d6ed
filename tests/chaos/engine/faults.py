"""A pool of real connections on which any one statement can go wrong, in four ways.

Statements are counted as the engine executes them, BEGIN and COMMIT among them; the n-th one meets the fault:

    REFUSED   the server refuses it for a reason that passes (a deadlock), and the transaction is lost
    BROKEN    the server refuses it for a reason that does not pass (a full disk)
    CUT       the connection dies before it
    UNHEARD   it is executed, and if it commits it has committed; then the connection dies, and the caller sees
              only that (Temporal calls it ExecuteAndTimeout)

The server does each of them for real: it raises the error, and it ends the session.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, cast

import psycopg
from psycopg.pq import TransactionStatus

from orchestrator import store
from orchestrator.store.connect import Conn, Pool


class Fault(Enum):
    REFUSED = "refused"
    BROKEN = "broken"
    CUT = "cut"
    UNHEARD = "unheard"


_RAISE = "DO $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{}'; END $$"
_CODES = {Fault.REFUSED: "40P01", Fault.BROKEN: "53100"}


class Hold:
    """A place at which a verb stands still."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.reached = threading.Event()
        self.go = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.go.wait(30), "nobody let it go"


class FaultyPool(Pool):
    """Lends real connections that watch what is executed on them."""

    def __init__(self, url: str, *, size: int = 4) -> None:
        super().__init__(url, size=size, timeout=5.0)
        self._admin = psycopg.connect(url, autocommit=True)
        self.statements: list[str] = []
        """The names of the statements since the last `watch`."""
        self.before: dict[str, Callable[[], object]] = {}
        """What to do, once, before the statement of a name."""
        self._armed: dict[int, Fault] = {}
        self._hold: Hold | None = None

    @contextmanager
    def connection(self) -> Iterator[Conn]:
        with super().connection() as conn:
            yield cast(Conn, Watched(conn, self))

    @contextmanager
    def watch(self, faults: Mapping[int, Fault] | None = None) -> Iterator[list[str]]:
        """Name the statements executed meanwhile; those of these indices, from 0, meet a fault."""
        self.statements, self._armed = [], dict(faults or {})
        try:
            yield self.statements
        finally:
            self._armed = {}

    @contextmanager
    def held(self, index: int) -> Iterator[Hold]:
        """Whoever comes to the statement of this index meanwhile waits there until it is let go."""
        self.statements, hold = [], Hold(index)
        self._hold = hold
        try:
            yield hold
        finally:
            self._hold = None
            hold.go.set()

    @property
    def waiting(self) -> bool:
        """Whether a fault is armed that has not happened yet."""
        return bool(self._armed)

    def close(self) -> None:
        super().close()
        self._admin.close()

    def meet(self, conn: Conn, statement: Any, values: Any = None) -> Any:
        """Execute a statement, or what becomes of it."""
        index, name = len(self.statements), name_of(statement)
        self.statements.append(name)
        self.before.pop(name, lambda: None)()
        if self._hold is not None and self._hold.index == index:
            self._hold.wait()
        fault = self._armed.pop(index, None)
        if fault is None:
            return conn.execute(statement, values)
        return self._strike(fault, conn, statement, values)

    def _strike(self, fault: Fault, conn: Conn, statement: Any, values: Any) -> Any:
        if fault in _CODES:
            conn.execute(_RAISE.format(_CODES[fault]))
        if fault is Fault.UNHEARD:
            conn.execute(statement, values)
        self._admin.execute("SELECT pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])
        return conn.execute("SELECT 1")


class Watched:
    """A connection as the engine sees it: whatever is executed passes by the pool."""

    def __init__(self, conn: Conn, pool: FaultyPool) -> None:
        self._conn = conn
        self._pool = pool

    def execute(self, statement: Any, values: Any = None, **options: Any) -> Any:
        return self._pool.meet(self._conn, statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As psycopg's, with its BEGIN and COMMIT in view; one inside another one is a savepoint."""
        inner = self._conn.info.transaction_status == TransactionStatus.INTRANS
        self.execute("SAVEPOINT part" if inner else "BEGIN")
        try:
            yield
        except BaseException:
            if not self._conn.closed:
                self._conn.execute("ROLLBACK TO SAVEPOINT part" if inner else "ROLLBACK")
            raise
        self.execute("RELEASE SAVEPOINT part" if inner else "COMMIT")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


MODULES: tuple[ModuleType, ...] = tuple(
    import_module(f"{store.__name__}.{found.name}")
    for found in iter_modules(store.__path__)
    if found.name.endswith("_queries")
)
"""Every room with statements."""


def _named(modules: tuple[ModuleType, ...]) -> dict[str, str]:
    return {
        text: f"{module.__name__.rpartition('.')[2].removesuffix('_queries')}.{name}"
        for module in modules
        for name, text in vars(module).items()
        if name.isupper() and isinstance(text, str)
    }


_NAMES = _named(MODULES)


def name_of(statement: Any) -> str:
    """The name of a statement of ours, as `advance.INSERT_STEPS`; of any other its first word."""
    text = statement.decode() if isinstance(statement, bytes) else str(statement)
    return _NAMES.get(text) or text.split(maxsplit=1)[0].rstrip(";")


_CHANGES = re.compile(r"\b(INSERT INTO|(?<!FOR )UPDATE|DELETE FROM)\s+(?!OF\b)\w")
_WRITES = {name for text, name in _NAMES.items() if _CHANGES.search(text)}


def writing(room: str) -> set[str]:
    """The names of all statements of a room, say `advance`, that change a row."""
    return {name for name in _WRITES if name.startswith(f"{room}.")}


def matters(name: str) -> bool:
    """Whether a statement of this name changes a row, or begins or ends a transaction that does."""
    return name in _WRITES or name in ("BEGIN", "COMMIT")
