"""Takes in what is to be run: checks it, has the engine make runs of it, and the dispatcher send their first steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jsonschema_rs
import pydantic_core
from pydantic import ValidationError

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.plan import Plan
from orchestrator.engine import Engine, Submission, Submitted, canonical
from orchestrator.engine.patience import patiently
from orchestrator.identify import new_id
from orchestrator.masking.masker import discreet
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.planning.strict import refuse_excess
from orchestrator.store.borrowed import Lender
from orchestrator.store.refusals import translated
from schemas.errors import Fault, IdempotencyConflict, InputError
from schemas.intake import SUBMIT, SubmitRequest
from schemas.workflows import Workflow

BATCH = 1_000
"""Runs that are created in one transaction, unless the transaction is the caller's."""

LONGEST_NAME = 1_000
"""Bytes of a tenant, a label or an idempotency key."""

TASK = "task:"
"""What the key of a message begins with that names none: its id follows."""

LONGEST_DELAY = 10 * 366 * 86_400.0
"""Seconds after which a run may start at the latest."""


@dataclass(frozen=True)
class Terms:
    """What is said of runs besides their input."""

    tenant: str | None = None
    priority: int | None = None
    labels: Mapping[str, str] | None = None
    delay: float | None = None

    def faults(self) -> Iterator[Fault]:
        """Everything that Postgres could not store, or that would mean nothing."""
        if self.tenant is not None:
            yield from name_faults("tenant", self.tenant)
        for name, value in (self.labels or {}).items():
            if isinstance(name, str) and isinstance(value, str):
                yield from name_faults(f"label {name[:50]!r}", f"{name}={value}")
            else:
                yield Fault(f"label {name!r}"[:60], "its name and its value must be texts")
        if self.priority is not None and not 0 <= self.priority <= 9:
            yield Fault("priority", f"{self.priority} is not between 0 and 9")
        if self.delay is not None and not 0 <= self.delay <= LONGEST_DELAY:
            yield Fault("delay", f"{self.delay} is not between 0 and {LONGEST_DELAY:.0f} seconds")


class Submitter:
    """What clients and the task `baton.submit` have in common; safe from many threads."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._lender = Lender(engine.pool)
        self._validators: dict[tuple[str, bool], jsonschema_rs.Draft202012Validator] = {}

    def submit(
        self,
        workflow: Workflow | str,
        inputs: Iterable[Any],
        terms: Terms,
        *,
        keys: Iterable[str | None] | None = None,
        connection: object = None,
        strict: bool = False,
    ) -> list[Submitted]:
        """Create runs of one workflow; the answers in the order of the inputs.

        Everything is checked before the first run is created, `strict` also what it can cost at most. With a
        `connection` (see `store.borrowed`) the runs exist if and only if its transaction commits. Raises `InputError`,
        `NotFound`, `IdempotencyConflict`, `BudgetTooSmall`, and `Unavailable` when Postgres cannot be reached; on a
        caller's connection also what psycopg raises to have the whole transaction repeated (a deadlock, a
        serialization failure).
        """
        with translated(passing=connection is not None):
            plan = self._plan(workflow)
            if strict:
                refuse_excess(plan.workflow)
            submissions = self._checked(plan, list(inputs), terms, keys)
            if connection is None:
                return self._create(plan, submissions)
            with self._lender.visit(connection) as conn:
                batches = _batches(submissions)
                return [one for batch in batches for one in self._engine.submit_on(conn, plan, batch)]

    def take_in(self, given: Mapping[str, Any], message: str) -> Submitted:
        """Create the run that a message asks for; waits while Postgres is away.

        `message` is its id: the idempotency key of one that names no other. Raises as `submit`, `InputError` also
        for what is no `SubmitRequest`, and `Unavailable` when Postgres has been away for long.
        """
        request = _request(given)
        key = request.idempotency_key if request.idempotency_key is not None else f"{TASK}{message}"
        with translated():
            return self._take_in(request, key)

    @patiently
    def _take_in(self, request: SubmitRequest, key: str) -> Submitted:
        terms = Terms(request.tenant, request.priority, request.labels, request.delay)
        plan = self._engine.plans.by_name(request.workflow)
        (answer,) = self._create(plan, self._checked(plan, [request.input], terms, [key], quoting=False))
        return answer

    def prepare(self, workflow: Workflow | str, value: Any, terms: Terms) -> tuple[Plan, Submission]:
        """One run as it would be submitted, checked; nothing is created. Raises `InputError` and `NotFound`."""
        plan = self._plan(workflow)
        (submission,) = self._checked(plan, [value], terms, None)
        return plan, submission

    def send_unsent(self, runs: Sequence[UUID]) -> int:
        """Send what was left for the timers to send, if its transaction has committed; how many steps."""
        with translated():
            ready = [one for batch in _batches(runs) for one in self._engine.unsent(batch)]
        self._dispatcher.send(ready)
        return len(ready)

    def _create(self, plan: Plan, submissions: Sequence[Submission]) -> list[Submitted]:
        answers = []
        for batch in _batches(submissions):
            submitted, ready = self._engine.submit(plan, batch)
            self._dispatcher.send(ready)
            answers += submitted
        return answers

    def _plan(self, workflow: Workflow | str) -> Plan:
        return (
            self._engine.plans.by_name(workflow) if isinstance(workflow, str) else compile_workflow(workflow)
        )

    def _checked(
        self,
        plan: Plan,
        inputs: Sequence[Any],
        terms: Terms,
        keys: Iterable[str | None] | None,
        *,
        quoting: bool = True,
    ) -> list[Submission]:
        """`quoting` says whether errors may repeat what is wrong with an input: to its sender alone."""
        named = [None] * len(inputs) if keys is None else list(keys)
        if len(named) != len(inputs):
            raise InputError(
                "submission", [Fault("", f"{len(inputs)} inputs, but {len(named)} idempotency keys")]
            )
        faults = [*terms.faults(), *_key_faults(named)]
        if faults:
            raise InputError("submission", faults)
        validator = self._validators.get((plan.id, quoting))
        if validator is None:
            mask = None if quoting else "it"
            validator = jsonschema_rs.Draft202012Validator(plan.input_schema, mask=mask)
            self._validators[plan.id, quoting] = validator
        what, name = f"workflow {plan.workflow.name!r}", plan.workflow.name
        schema = f"`baton plan {name}` prints the schema of its input"
        texts = [json_text(what, schema, validator, value) for value in inputs]
        _refuse_ambiguous(named, texts)
        return [
            Submission(
                id=new_id(),
                input=text,
                tenant=terms.tenant or "default",
                priority=terms.priority or 0,
                labels=terms.labels,
                idempotency_key=key,
                delay=terms.delay,
            )
            for key, text in zip(named, texts, strict=True)
        ]


def _request(given: Mapping[str, Any]) -> SubmitRequest:
    """Raises `InputError` naming every fault."""
    try:
        return SubmitRequest.model_validate(dict(given))
    except ValidationError as error:
        faults = [Fault(".".join(str(p) for p in e["loc"]), e["msg"]) for e in error.errors()]
        raise InputError(SUBMIT, faults) from None


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def json_text(what: str, next_step: str, validator: jsonschema_rs.Draft202012Validator, value: Any) -> str:
    """The input of `what` as JSON text. Raises `InputError` naming every fault."""
    try:
        text = pydantic_core.to_json(value).decode()
        data = json.loads(text)
    except (pydantic_core.PydanticSerializationError, ValueError, RecursionError) as error:
        faults = [Fault("", f"the input has no JSON form: {error}")]
        raise InputError(what, faults, next_step=next_step) from None
    faults = [
        Fault(".".join(str(p) for p in error.instance_path), error.message)
        for error in validator.iter_errors(data)
    ]
    if "\\u0000" in text:
        faults.append(Fault("", "the input contains a NUL character, which Postgres cannot store"))
    if faults:
        raise InputError(what, faults, next_step=next_step)
    return text


def _key_faults(keys: Sequence[str | None]) -> Iterator[Fault]:
    for number, key in enumerate(keys):
        what = "idempotency key" if len(keys) == 1 else f"idempotency key {number}"
        if key == "":
            yield Fault(what, "it is empty")
        elif key is not None:
            yield from name_faults(what, key)


def name_faults(what: str, name: str) -> Iterator[Fault]:
    """Why an index could not hold this name, or nobody may read it, if so."""
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        yield Fault(what, f"it is longer than {LONGEST_NAME} bytes")
    if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        yield Fault(what, "it contains a character that Postgres cannot store")
    if discreet(name) != name:
        yield Fault(what, "it holds a credential, and names are shown: take a digest of it")


def _refuse_ambiguous(keys: Sequence[str | None], texts: Sequence[str]) -> None:
    """Raises `IdempotencyConflict` for a key with two inputs in one call: there is no run yet to be named."""
    first: dict[str, str] = {}
    for key, text in zip(keys, texts, strict=True):
        if key is None or (known := first.setdefault(key, text)) == text:
            continue
        if canonical(known) != canonical(text):
            message = f"idempotency key {key!r} stands twice in this call, with different inputs"
            raise IdempotencyConflict(message, next_step="give each of them a key of its own")
