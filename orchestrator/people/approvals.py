"""What people are asked, and their decisions; each counts once, and is kept with who made it and what was shown."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import jsonschema_rs
from psycopg.rows import dict_row

from orchestrator.engine import Engine
from orchestrator.engine.approving import shown
from orchestrator.engine.values import error_text
from orchestrator.engine.waits import WaitEnd
from orchestrator.intake.submitter import json_text
from orchestrator.masking.masker import discreet, discreet_json
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.store import wait_queries as sql
from orchestrator.store.connect import Pool
from orchestrator.store.refusals import translated
from orchestrator.watching.views import Views
from schemas.agents import JsonSchema
from schemas.errors import Conflict, Fault, InputError, NotFound
from schemas.waits import Approval, WaitKind, WaitView

AS_IT_IS: Any = object()
"""Stands for a payload that nobody edits, which None is not: that is JSON's null."""

MAX_ID = 2**63 - 1
LONGEST_NAME = 200
LONGEST_REASON = 4_000

HOLDS_ONE = (
    "it holds a credential, and what people decide is kept and shown: give it to the worker's environment"
)


class Approvals:
    """The part of a client that is for people who decide; safe from many threads."""

    def __init__(self, pool: Pool, engine: Engine, dispatcher: Dispatcher, views: Views) -> None:
        self._pool = pool
        self._engine = engine
        self._dispatcher = dispatcher
        self._views = views

    @translated()
    def approvals(
        self,
        *,
        all: bool = False,
        run_id: UUID | None = None,
        person: str | None = None,
        limit: int = 50,
    ) -> list[WaitView]:
        """What waits for people, the latest first: approvals, and questions that agents have asked.

        With `all` also what is decided; with `person` only what that person may decide.
        """
        keys = {"all": all, "run": run_id, "person": person, "limit": limit}
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_WAITS, keys).fetchall()
        return [WaitView.model_validate(row) for row in rows]

    @translated()
    def approval(self, id: int) -> Approval:
        """One of them with what is to be approved, decided or not. Raises `NotFound`."""
        return self._found(id)

    @translated()
    def approve(self, id: int, *, by: str, payload: Any = AS_IT_IS, reason: str = "") -> Approval:
        """Let a step go on with what it was given, or with a `payload` in its place, which must be of its type.

        Raises `NotFound`; `Conflict` for what is decided already, and for somebody who is not asked; `InputError`.
        """
        found = self._open(id, WaitKind.APPROVAL, by, reason)
        output = None if payload is AS_IT_IS else _checked(found, payload, "payload")
        edited = {} if output is None else {"edited": shown(payload)}
        return self._end(found, WaitEnd(id, "approved", by, "done", output=output, reason=reason), edited)

    @translated()
    def reject(self, id: int, *, by: str, reason: str = "") -> Approval:
        """Let a step fail for this reason. Raises as `approve`."""
        found = self._open(id, WaitKind.APPROVAL, by, reason)
        message = f"{by} rejected {found.key!r}" + (f": {reason}" if reason else "")
        error = error_text("Rejected", message)
        return self._end(found, WaitEnd(id, "rejected", by, "failed", error=error, reason=reason))

    @translated()
    def answer(self, id: int, value: Any, *, by: str, reason: str = "") -> Approval:
        """Answer what an agent has asked; it goes on where it was. Raises as `approve`."""
        found = self._open(id, WaitKind.QUESTION, by, reason)
        answer = _checked(found, value, "answer")
        output = f'{{"answer":{answer},"decision":"answered"}}'
        end = WaitEnd(id, "answered", by, "ready", output=output, reason=reason)
        return self._end(found, end, {"answer": shown(value)})

    def _end(self, found: Approval, end: WaitEnd, told: dict[str, Any] | None = None) -> Approval:
        given = shown(found.payload) if found.kind is WaitKind.APPROVAL else {"question": found.key}
        why = end.reason or f"{end.by} {end.decision} it"
        audit = {"verb": "was", "choice": end.decision, "by": end.by, "reason": why, **given, **(told or {})}
        ended = self._engine.end_waits([end._replace(told=audit)])
        if not ended.waits:
            raise _settled(self._found(end.wait))
        self._dispatcher.send(ended.ready)
        return self._found(end.wait)

    def _open(self, id: int, kind: WaitKind, by: str, reason: str) -> Approval:
        """One that this person may decide now. Raises `NotFound`, `Conflict`, `InputError`."""
        faults = [*_text_faults("by", by, LONGEST_NAME), *_text_faults("reason", reason, LONGEST_REASON)]
        if not by.strip():
            faults.append(Fault("by", "nobody is named: a decision is somebody's"))
        if faults:
            raise InputError("decision", faults)
        found = self._found(id)
        if found.settled_at is not None:
            raise _settled(found)
        if found.kind is not kind:
            what, verb = ("a question", "answer") if kind is WaitKind.APPROVAL else ("an approval", "approve")
            raise Conflict(f"{id} is {what}, {found.key!r}", next_step=f"baton approvals {verb} {id}")
        if found.audience and by not in found.audience:
            raise Conflict(
                f"{id}, {found.key!r}, is for {' or '.join(found.audience)} to decide, not for {by}",
                next_step=f"baton approvals show {id}",
            )
        return found

    def _found(self, id: int) -> Approval:
        row = None
        if 0 < id <= MAX_ID:
            with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
                row = cursor.execute(sql.SELECT_WAIT, {"id": id}).fetchone()
        if row is None or row["kind"] not in (WaitKind.APPROVAL, WaitKind.QUESTION):
            raise NotFound(f"there is no approval {id}", next_step="baton approvals ls")
        definition, ref = row.pop("definition_id"), row.pop("ref")
        if row["kind"] == WaitKind.QUESTION:
            return Approval(**row, payload=None, takes=row["request"].get("takes") or {})
        payload = self._views.value(row["run_id"], definition, ref)
        return Approval(**row, payload=payload, takes=self._schema(row["run_id"], row["path"]))

    def _schema(self, run_id: UUID, path: str) -> JsonSchema:
        return self._engine.plan_of(run_id, path).input_schema_at(path)


def _checked(found: Approval, value: Any, what: str) -> str:
    """The value as JSON text, if it is of the right type. Raises `InputError`."""
    validator = jsonschema_rs.Draft202012Validator(found.takes)
    whose, next_step = f"the {what} of {found.key!r}", f"baton approvals show {found.id}"
    text = json_text(whose, next_step, validator, value)
    if discreet_json(text) != text:
        raise InputError(whose, [Fault("", HOLDS_ONE)], next_step=next_step)
    return text


def _text_faults(what: str, text: str, most: int) -> list[Fault]:
    faults = []
    if discreet(text) != text:
        faults.append(Fault(what, HOLDS_ONE))
    if len(text) > most:
        faults.append(Fault(what, f"it is longer than {most} characters"))
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        faults.append(Fault(what, "it contains a character that Postgres cannot store"))
    return faults


def _settled(found: Approval) -> Conflict:
    how = f"{found.decision} by {found.settled_by}"
    return Conflict(
        f"{found.id}, {found.key!r}, was {how} already", next_step=f"baton approvals show {found.id}"
    )
