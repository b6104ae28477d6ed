"""The producer's side: enqueue runs, follow them, read what became of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any
from uuid import UUID

import jsonschema_rs
import pydantic_core

from orchestrator.broker import shared_app
from orchestrator.compile import Plan, compile_workflow
from orchestrator.dispatch import Dispatcher
from orchestrator.engine import Engine, Submission
from orchestrator.feed import Feed
from orchestrator.identify import new_id
from orchestrator.places import find
from orchestrator.store.connect import Pool
from orchestrator.views import Views
from schemas.errors import Fault, InputError, ResultTimeout, RunFailed
from schemas.events import Event
from schemas.runs import PoolView, RunState, RunSummary, RunView, WorkerView
from schemas.settings import settings
from schemas.workflows import Workflow

BATCH = 1_000
"""Runs that `submit_many` creates in one transaction."""


LONGEST_NAME = 1_000
"""Bytes of a tenant, a label or an idempotency key."""


class RunHandle:
    """One run, as its producer holds it."""

    def __init__(self, client: Client, run_id: UUID, *, created: bool = True) -> None:
        self._client = client
        self.id = run_id
        self.created = created
        """False when an idempotency key answered with a run that was there already."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the output, as JSON data.

        Raises `RunFailed`, and `ResultTimeout` after `timeout` seconds.
        """
        return self._client.result(self.id, timeout)

    def stream(self, after: int = 0) -> Iterator[Event]:
        """The events of the run as they happen, until it has ended."""
        return self._client.stream(self.id, after)

    def cancel(self, reason: str = "") -> None:
        """End the run. Raises `Conflict` if it has ended already."""
        self._client.cancel(self.id, reason)

    def view(self) -> RunView:
        """The run as it stands, with its steps."""
        return self._client.run(self.id)


class Client:
    """Talks to one Postgres and one broker; safe to share between threads."""

    def __init__(self, database_url: str | None = None, broker_url: str | None = None) -> None:
        """Without URLs: those of the environment, else of the stack that runs on this machine.

        Raises `Unavailable` when there are none.
        """
        places = find(database_url, broker_url)
        self._pool = Pool(places.database_url, size=settings().pool_size)
        self._engine = Engine(self._pool)
        self._dispatcher = Dispatcher(shared_app(places))
        self._views = Views(self._pool, self._engine.plans)
        self._feed = Feed(self._pool)
        self._plans: dict[str, tuple[Plan, jsonschema_rs.Draft202012Validator]] = {}

    # --- producing ----------------------------------------------------------------------------------------

    def submit(
        self,
        workflow: Workflow | str,
        input: Any = None,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        delay: float | None = None,
    ) -> RunHandle:
        """Start a run; it is durable when this returns.

        `workflow` is a definition or the name of a stored one; `input` anything that Pydantic can serialise.
        `priority` goes from 0 (normal) to 9, `delay` is in seconds. Raises `InputError`, `NotFound`,
        `IdempotencyConflict`, and `psycopg.OperationalError` when Postgres cannot be reached.
        """
        keys = None if idempotency_key is None else [idempotency_key]
        (handle,) = self.submit_many(
            workflow,
            [input],
            idempotency_keys=keys,
            tenant=tenant,
            priority=priority,
            labels=labels,
            delay=delay,
        )
        return handle

    def submit_many(
        self,
        workflow: Workflow | str,
        inputs: Iterable[Any],
        *,
        idempotency_keys: Iterable[str] | None = None,
        tenant: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        delay: float | None = None,
    ) -> list[RunHandle]:
        """Start many runs of one workflow, in transactions of `BATCH` runs; the handles in order.

        All inputs are checked before the first run is created; otherwise as `submit`.
        """
        _storable({"tenant": tenant or "", **{f"label {k}": k + v for k, v in (labels or {}).items()}})
        plan, validator = self._known(workflow)
        texts = [_checked(plan, validator, one) for one in inputs]
        keys = list(idempotency_keys) if idempotency_keys is not None else [None] * len(texts)
        _storable({f"idempotency key {n}": key for n, key in enumerate(keys) if key is not None})
        submissions = [
            Submission(
                id=new_id(),
                input=text,
                tenant=tenant or "default",
                priority=_priority(priority),
                labels=labels,
                idempotency_key=key,
                delay=delay,
            )
            for text, key in zip(texts, keys, strict=True)
        ]
        handles = []
        for start in range(0, len(submissions), BATCH):
            answers, ready = self._engine.submit(plan, submissions[start : start + BATCH])
            self._dispatcher.send(ready)
            handles += [RunHandle(self, run_id, created=created) for run_id, created in answers]
        return handles

    def register(self, workflow: Workflow) -> None:
        """Store a definition, so that it can be run by its name."""
        self._engine.plans.save(compile_workflow(workflow), newest=True)

    def cancel(self, run_id: UUID, reason: str = "") -> None:
        """End a run. Raises `NotFound`, and `Conflict` if it has ended already."""
        self._engine.cancel(run_id, reason)

    def resume(self, run_id: UUID) -> None:
        """Run what failed again; what is done stays done. Raises `NotFound` and `Conflict`."""
        self._dispatcher.send(self._engine.resume(run_id))

    # --- reading ------------------------------------------------------------------------------------------

    def result(self, run_id: UUID, timeout: float | None = None) -> Any:
        """Wait for a run's output. Raises `RunFailed`, `ResultTimeout` and `NotFound`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pauses = _pauses()
        while (end := self._views.end(run_id)) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise ResultTimeout(
                    f"run {run_id} has not ended after {timeout:g} s", next_step=f"baton runs watch {run_id}"
                )
            time.sleep(next(pauses))
        if end.state != RunState.COMPLETED:
            reason = end.error.message if end.error is not None else "no reason given"
            raise RunFailed(f"run {run_id} {end.state}: {reason}", run_id=str(run_id), state=end.state)
        return end.output

    def stream(self, run_id: UUID, after: int = 0) -> Iterator[Event]:
        """Events with a number above `after`, as they happen, until the run has ended. Raises `NotFound`."""
        self._views.summary(run_id)
        for pause in _pauses():
            ended = self._views.has_ended(run_id)
            events = self._feed.read(run_id, after)
            while events:
                yield from events
                after = events[-1].number
                events = self._feed.read(run_id, after)
            if ended:
                return
            time.sleep(pause)

    def events(self, run_id: UUID, after: int = 0) -> list[Event]:
        """The events so far with a number above `after`. Raises `NotFound`."""
        self._views.summary(run_id)
        return self._feed.read(run_id, after, limit=100_000)

    def run(self, run_id: UUID) -> RunView:
        """A run with its steps, payloads and notes. Raises `NotFound`."""
        return self._views.run(run_id)

    def runs(
        self,
        *,
        state: RunState | None = None,
        workflow: str | None = None,
        label: str | None = None,
        tenant: str | None = None,
        limit: int = 50,
    ) -> list[RunSummary]:
        """The newest runs first; `label` is `KEY=VALUE`."""
        return self._views.runs(state=state, workflow=workflow, label=label, tenant=tenant, limit=limit)

    def pools(self) -> list[PoolView]:
        """Every agent that has live workers or waiting work."""
        return self._views.pools()

    def workers(self, *, ended: bool = False) -> list[WorkerView]:
        """Worker processes, live ones first; with `ended` also those that have stopped or died."""
        return self._views.workers(ended=ended)

    def workflows(self) -> list[Workflow]:
        """The newest stored definition of every name."""
        return self._engine.plans.all()

    def close(self) -> None:
        """Close the connections to Postgres."""
        self._pool.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _known(self, workflow: Workflow | str) -> tuple[Plan, jsonschema_rs.Draft202012Validator]:
        plans = self._engine.plans
        plan = plans.by_name(workflow) if isinstance(workflow, str) else compile_workflow(workflow)
        if plan.id not in self._plans:
            self._plans[plan.id] = (plan, jsonschema_rs.Draft202012Validator(plan.input_schema))
        return self._plans[plan.id]


def _checked(plan: Plan, validator: jsonschema_rs.Draft202012Validator, value: Any) -> str:
    """The input as JSON text. Raises `InputError` naming every fault."""
    what = f"workflow {plan.workflow.name!r}"
    schema = f"`baton plan {plan.workflow.name}` prints the schema of its input"
    try:
        text = pydantic_core.to_json(value).decode()
        data = json.loads(text)
    except (pydantic_core.PydanticSerializationError, ValueError) as error:
        faults = [Fault("", f"the input has no JSON form: {error}")]
        raise InputError(what, faults, next_step=schema) from None
    faults = [
        Fault(".".join(str(p) for p in error.instance_path), error.message)
        for error in validator.iter_errors(data)
    ]
    if "\\u0000" in text:
        faults.append(Fault("", "the input contains a NUL character, which Postgres cannot store"))
    if faults:
        raise InputError(what, faults, next_step=schema)
    return text


def _storable(texts: Mapping[str, str]) -> None:
    """Refuse names that no index can hold. Raises `InputError`."""
    faults = [
        Fault(what, f"is longer than {LONGEST_NAME} bytes or contains a NUL character")
        for what, text in texts.items()
        if len(text.encode("utf-8", "replace")) > LONGEST_NAME or "\0" in text
    ]
    if faults:
        raise InputError("submission", faults)


def _priority(priority: int | None) -> int:
    if priority is not None and not 0 <= priority <= 9:
        raise InputError("priority", [Fault("", f"{priority} is not between 0 and 9")])
    return priority or 0


def _pauses() -> Iterator[float]:
    """Seconds between two looks: prompt at first, easy on the server when it takes long."""
    pause = 0.001
    while True:
        yield pause
        pause = min(pause * 1.06, 0.03)
