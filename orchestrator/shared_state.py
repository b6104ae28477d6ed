"""State that agents share, in Postgres: values with versions, merged without losing one, and conversations.

Each write is one transaction that first holds the writer's step: an attempt that was superseded writes nothing. What a
step has written is remembered by the number of the call, so a step that is tried again gets the answers that it had.
Only its own notes (the scope `step`) are written anew each time: there it looks first how far it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

import pydantic_core
from psycopg import DataError
from psycopg.rows import dict_row

from orchestrator.engine.patience import patiently
from orchestrator.intake.submitter import name_faults
from orchestrator.merging import merged
from orchestrator.store import state_queries as sql
from orchestrator.store.connect import Conn, Pool
from orchestrator.store.refusals import translated
from schemas.errors import AgentError, Conflict, Permanent
from schemas.state import MAX_HISTORY, MAX_VALUE, Merge, Scope, SessionMessage, Versioned


class StaleAttempt(AgentError):
    """This attempt no longer holds its step, so it may not write."""


class StateError(Permanent):
    """The state cannot be written like this."""


class Author(NamedTuple):
    """The attempt that writes."""

    run_id: UUID
    path: str
    attempt: int
    tenant: str


class Cell(NamedTuple):
    """Where a value stands, or a conversation, which has no name."""

    scope: Scope
    owner: str
    name: str = ""


class _Write(NamedTuple):
    """What a write gave back, and the version that it made."""

    result: Any
    version: int


class SharedState:
    """The state of one database; safe from many threads.

    What agents do waits while Postgres is away; who only looks (`values`, `conversation`) is told so.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    # --- values -------------------------------------------------------------------------------------------

    @patiently
    def get(self, tenant: str, cell: Cell) -> Versioned:
        """The value as it stands."""
        with self._pool.connection() as conn:
            row = conn.execute(sql.SELECT_STATE, {"tenant": tenant, **cell._asdict()}).fetchone()
        return Versioned(value=json.loads(row[0]), version=row[1]) if row is not None else Versioned()

    @patiently
    def all(self, tenant: str, scope: Scope, owner: str) -> dict[str, Versioned]:
        """Every value of an owner, by name."""
        return self._all(tenant, scope, owner)

    def _all(self, tenant: str, scope: Scope, owner: str) -> dict[str, Versioned]:
        keys = {"tenant": tenant, "scope": scope, "owner": owner}
        with self._pool.connection() as conn:
            rows = conn.execute(sql.SELECT_STATES, keys).fetchall()
        return {name: Versioned(value=json.loads(text), version=version) for name, text, version in rows}

    def set(self, author: Author, cell: Cell, call: int, value: Any, version: int | None = None) -> int:
        """Write a value, if it still has this version; its new version. Raises `Conflict` if it has not."""

        def write(conn: Conn) -> _Write:
            keys, _, found = _locked(conn, author, cell)
            if version is not None and found != version:
                raise Conflict(f"{cell.name!r} has version {found}, not {version}: read it again")
            made = _written(conn, keys, value)
            return _Write(made, made)

        return int(self._once(author, cell, call, "set", _text(value), write))

    def merge(self, author: Author, cell: Cell, call: int, value: Any, how: Merge) -> Any:
        """Let a value join what is there, whoever else does so now; what is there then.

        Of a call that an earlier attempt has made already: a number as it was then, anything else as it is now.
        """
        given = _text(value)

        def write(conn: Conn) -> _Write:
            keys, old, _ = _locked(conn, author, cell)
            new = merged(how, old, json.loads(given))
            return _Write(new if isinstance(new, int | float) else None, _written(conn, keys, new))

        found = self._once(author, cell, call, how, given, write)
        return found if found is not None else self.get(author.tenant, cell).value

    @translated()
    def values(self, tenant: str, scope: Scope, owner: str) -> dict[str, Versioned]:
        """Every value of an owner, by name. Raises `Unavailable`."""
        return self._all(tenant, scope, owner)

    # --- conversations ------------------------------------------------------------------------------------

    def append(self, author: Author, session: Cell, call: int, message: Any) -> int:
        """Add a message to a conversation; its number."""
        given = _text(message)
        keys = {**author._asdict(), "session": session.owner, "message": given}

        def write(conn: Conn) -> _Write:
            (number,) = conn.execute(sql.APPEND_MESSAGE, keys).fetchone() or (0,)
            return _Write(number, number)

        return int(self._once(author, session, call, "append", given, write))

    @patiently
    def history(self, tenant: str, session: str, last: int) -> list[SessionMessage]:
        """The latest messages, the oldest of them first."""
        return self._latest(tenant, session, last)

    @translated()
    def conversation(self, tenant: str, session: str, last: int) -> list[SessionMessage]:
        """The same. Raises `Unavailable`."""
        return self._latest(tenant, session, last)

    def _latest(self, tenant: str, session: str, last: int) -> list[SessionMessage]:
        keys = {"tenant": tenant, "session": session, "last": min(last, MAX_HISTORY)}
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_HISTORY, keys).fetchall()
        return [SessionMessage.model_validate(row) for row in reversed(rows)]

    # --- once for each call of a step ---------------------------------------------------------------------

    @patiently
    def _once(
        self, author: Author, cell: Cell, call: int, verb: str, given: str, write: Callable[[Conn], _Write]
    ) -> Any:
        """Write unless this call of the step has done so before; what it gave."""
        for what, text in (("name", cell.name), ("key", cell.owner)):
            for fault in name_faults(what, text):
                raise StateError(str(fault))
        keys = {**author._asdict(), **cell._asdict(), "call": call, "verb": verb, "given": given}
        try:
            with self._pool.connection() as conn, conn.transaction():
                if conn.execute(sql.HOLD_STEP, keys).fetchone() is None:
                    raise StaleAttempt
                if cell.scope is Scope.STEP:
                    return write(conn).result
                row = conn.execute(sql.SELECT_WRITE, keys).fetchone()
                if row is not None:
                    return _remembered(row, cell, call, verb)
                made = write(conn)
                told = {"result": json.dumps(made.result), "version": made.version}
                conn.execute(sql.INSERT_WRITE, keys | told)
                return made.result
        except DataError as error:
            raise StateError(f"Postgres cannot store it: {error.diag.message_primary}") from error


def _remembered(row: tuple[Any, ...], cell: Cell, call: int, verb: str) -> Any:
    known, result = row
    if known != verb:
        raise StateError(
            f"write {call} to {cell.name or cell.owner!r} was {known} in an earlier attempt and is {verb} now:"
            " an attempt must make the same writes as those before, in the same order"
        )
    return json.loads(result)


def _locked(conn: Conn, author: Author, cell: Cell) -> tuple[dict[str, Any], Any, int]:
    """Have the value to ourselves until the end of the transaction: its keys, the value, its version."""
    of_run = None if cell.scope is Scope.KEY else author.run_id
    keys = {"tenant": author.tenant, **cell._asdict(), "of_run": of_run}
    text, version = conn.execute(sql.LOCK_STATE, keys).fetchone() or ("null", 0)
    return keys, json.loads(text), version


def _written(conn: Conn, keys: dict[str, Any], value: Any) -> int:
    (version,) = conn.execute(sql.WRITE_STATE, keys | {"value": _text(value)}).fetchone() or (0,)
    return int(version)


def _text(value: Any) -> str:
    """A value as JSON text. Raises `StateError` for what has none, or is too large."""
    try:
        text = pydantic_core.to_json(value).decode()
    except (pydantic_core.PydanticSerializationError, ValueError, RecursionError) as error:
        raise StateError(f"the value has no JSON form: {error}") from None
    if len(text.encode()) > MAX_VALUE:
        raise StateError(f"the value has more than {MAX_VALUE:,} bytes")
    return text
