"""Where events from outside come in: each becomes a row, once; what it starts is found out afterwards."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pydantic_core
from psycopg.rows import dict_row
from pydantic import TypeAdapter, ValidationError

from orchestrator.intake.submitter import Terms, name_faults
from orchestrator.masking.masker import as_key
from orchestrator.store import incoming_queries as sql
from orchestrator.store.borrowed import Lender
from orchestrator.store.connect import AnyConn, Pool
from orchestrator.store.refusals import translated
from schemas.base import Frozen
from schemas.errors import Fault, IdempotencyConflict, InputError, NotFound
from schemas.incoming import Emitted, EventType, IncomingEvent

MAX_PAYLOAD = 1_000_000
"""Bytes of an event's payload as JSON."""

_TYPE: TypeAdapter[str] = TypeAdapter(EventType)


class EventLine(Frozen):
    """An event as a line of a file has it."""

    type: str
    payload: Any = None
    key: str | None = None
    id: str | None = None

    @classmethod
    def parse(cls, number: int, text: str) -> EventLine:
        """Raises `InputError` naming every fault."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            faults = [Fault(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
            raise InputError(f"line {number}", faults) from None


class Inbox:
    """The events from outside of one database; safe to share between threads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lender = Lender(pool)

    def emit(
        self,
        type: str,
        payload: Any = None,
        *,
        key: str | None = None,
        id: str | None = None,
        tenant: str | None = None,
        connection: object = None,
    ) -> Emitted:
        """Store an event; it is durable when this returns, and one that has this `id` already is not stored again.

        Raises `InputError`, `IdempotencyConflict` for an id that stands for another event, and `Unavailable`.
        """
        key = as_key(key) if key is not None else None
        given = {
            "type": _checked(type, key, id, tenant),
            "key": key,
            "id": id if id is not None else str(uuid4()),
            "tenant": tenant or "default",
            "payload": _json(payload),
        }
        with translated(passing=connection is not None):
            if connection is None:
                with self._pool.connection() as conn:
                    return _stored(conn, given)
            with self._lender.visit(connection) as guest:
                return _stored(guest, given)

    def recent(
        self,
        *,
        type: str | None = None,
        key: str | None = None,
        tenant: str | None = None,
        failed: bool = False,
        limit: int = 50,
    ) -> list[IncomingEvent]:
        """The latest events first; with `failed`, those that a subscription could not deal with."""
        key = as_key(key) if key is not None else None
        keys = {"type": type, "key": key, "tenant": tenant, "failed": failed, "limit": limit}
        return self._read(sql.SELECT_INCOMING, keys)

    def find(self, id: str, *, tenant: str | None = None) -> IncomingEvent:
        """One event, and what became of it. Raises `NotFound`."""
        found = self._read(sql.SELECT_INCOMING_ONE, {"id": id, "tenant": tenant})
        if not found:
            raise NotFound(f"there is no event {id!r}", next_step="baton events ls")
        return found[0]

    def retry(self, *, event: int | None = None, subscription: str | None = None) -> int:
        """Judge again what was set aside, by the subscriptions of now; how many."""
        return self._settle(sql.RETRY_FAILED, event, subscription)

    def drop(self, *, event: int | None = None, subscription: str | None = None) -> int:
        """Give up what was set aside; how many. The reasons stay."""
        return self._settle(sql.DROP_FAILED, event, subscription)

    def _settle(self, statement: Any, event: int | None, subscription: str | None) -> int:
        with translated(), self._pool.connection() as conn:
            return conn.execute(statement, {"event": event, "subscription": subscription}).rowcount

    def _read(self, statement: Any, keys: dict[str, Any]) -> list[IncomingEvent]:
        with translated(), self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            return [IncomingEvent.model_validate(row) for row in cursor.execute(statement, keys).fetchall()]


def _stored(conn: AnyConn, given: dict[str, Any]) -> Emitted:
    while True:
        row = conn.execute(sql.INSERT_INCOMING, given).fetchone()
        if row is not None:
            return Emitted(number=row[0], id=given["id"], created=True)
        row = conn.execute(sql.SELECT_SAME, given).fetchone()
        if row is None:
            continue  # it was pruned between the two statements
        number, same = row
        if not same:
            raise IdempotencyConflict(
                f"there is an event {given['id']!r} already, and it says something else",
                next_step=f"baton events show {given['id']}",
            )
        return Emitted(number=number, id=given["id"], created=False)


def _checked(type: str, key: str | None, id: str | None, tenant: str | None) -> str:
    """The type. Raises `InputError` naming every fault."""
    faults = list(Terms(tenant=tenant).faults())
    try:
        _TYPE.validate_python(type, strict=True)
    except ValidationError:
        faults.append(Fault("type", f"{type!r} is not like ticket.created"))
    for what, text in (("key", key), ("id", id)):
        if text is not None:
            faults += [Fault(what, "it is empty")] if text == "" else name_faults(what, text)
    if faults:
        raise InputError("event", faults)
    return type


def _json(payload: Any) -> str:
    try:
        text = pydantic_core.to_json(payload).decode()
        json.loads(text)  # Postgres has numbers that Python refuses to read
    except (pydantic_core.PydanticSerializationError, ValueError, RecursionError) as error:
        raise InputError("event", [Fault("payload", f"it has no JSON form: {error}")]) from None
    if len(text.encode()) > MAX_PAYLOAD:
        raise InputError("event", [Fault("payload", f"it has more than {MAX_PAYLOAD:,} bytes")])
    if "\\u0000" in text:
        raise InputError("event", [Fault("payload", "it contains a NUL character")])
    return text
