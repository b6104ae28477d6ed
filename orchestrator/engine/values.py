"""What the verbs take and give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from orchestrator.definitions.plan import Plan
from schemas.events import EventKind
from schemas.outcomes import Done, ErrorInfo, Failed, Limited, Waiting
from schemas.usage import Usage

NOTHING = Usage()


class Pointer(NamedTuple):
    """All that a message says: which step of which run."""

    run_id: UUID
    path: str


class WorkerId(NamedTuple):
    """A worker process: its id in this life, and its Celery node name."""

    id: UUID
    name: str


class WorkerBeat(NamedTuple):
    """What a worker tells of itself once a second."""

    worker: WorkerId
    queues: tuple[str, ...]
    concurrency: int
    pool: str
    lease: float
    """Seconds from now after which it counts as dead."""
    throttled: tuple[str, ...] = ()
    """Those of `queues` whose agents have a rate limit."""


@dataclass(frozen=True)
class RunRef:
    """A run as far as moving it on needs to know it."""

    id: UUID
    plan: Plan
    priority: int
    paused: bool = False
    """Whether it is paused, in a transaction that holds the run: what becomes ready is then stored but not sent."""


class Spent(NamedTuple):
    """What a run with a budget has consumed."""

    usage: Usage
    seconds: float
    """Of work."""


@dataclass(frozen=True)
class Ready:
    """A step whose row is committed and whose message may now be sent."""

    run: RunRef
    path: str
    agent: str
    attempt: int = 1
    """A hint for people who read messages: the attempt this will probably be."""
    again: bool = False
    """A worker had begun it: it has waited already, so it goes to the head of its queue."""


@dataclass(frozen=True)
class Submission:
    """One run to be."""

    id: UUID
    input: str
    """JSON text, already checked against the workflow's input schema."""
    tenant: str = "default"
    priority: int = 0
    labels: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    delay: float | None = None
    """Seconds before the first step may start."""


class Submitted(NamedTuple):
    """The run that answers a submission; `created` is False when its idempotency key had been used before."""

    run_id: UUID
    created: bool


@dataclass(frozen=True)
class Claimed:
    """The right to run one attempt, and all that it needs."""

    run: RunRef
    path: str
    attempt: int
    retries: int
    """How often this step failed and was tried again since the run started or was resumed."""
    workflow: str
    tenant: str
    labels: Mapping[str, str]
    intent: str
    """The input of the run, as JSON text."""
    input: str
    """The input of the step, as JSON text."""
    run_left: float | None
    """Seconds until the run's deadline."""
    used_up: str = ""
    """The budget that does not let it begin, with all that is to be said of it; empty if none does."""
    metered: bool = False
    """Whether there may be a budget that it counts in."""


class Held(NamedTuple):
    """An attempt that a worker holds."""

    run_id: UUID
    path: str
    attempt: int
    retries: int


class Holding(NamedTuple):
    """An attempt that stands in the name of a worker, and how often its step lost its worker before."""

    run_id: UUID
    path: str
    attempt: int
    losses: int


@dataclass(frozen=True)
class Refused:
    """Nothing to do: the delivery is a duplicate, early or late."""

    reason: str
    done: bool = False
    """The step has ended already, and what follows it has not been claimed by anyone."""
    due_in: float | None = None
    """Seconds until the step may start, when the message came early."""


class Onward(NamedTuple):
    """What a worker needs to go on with the next stage at once, and whose steps it has room for."""

    claimed: Claimed
    """The attempt that ends."""
    agents: frozenset[str]


class Note(NamedTuple):
    """An event that an agent tells of its own work."""

    kind: EventKind
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Finished:
    """The end of one attempt, to be recorded."""

    run_id: UUID
    path: str
    attempt: int
    outcome: Done | Failed | Waiting | Limited
    output: str | None = None
    """JSON text of a `Done` outcome's output."""
    notes: tuple[Note, ...] = ()
    """What the agent told of its work, to commit with it."""
    counted: Usage = NOTHING
    """That part of its usage which budgets have counted already, call by call."""
    holds: bool = False
    """Whether something is set aside for the attempt as a whole."""
    onward: Onward | None = None
    """Set by a worker that would run the next stage of the pipeline at once."""


@dataclass(frozen=True)
class Recorded:
    """What became of a `Finished`: whether the fence let it pass, and which steps are ready because of it."""

    accepted: bool
    ready: tuple[Ready, ...] = ()
    ended: tuple[UUID, ...] = ()
    """Runs that have ended with it."""
    next: Claimed | None = None
    """The next stage, claimed in the same transaction; it is not among `ready`."""


def reason_of(error: Exception) -> str:
    """Why something could not be stored, in a line that can be."""
    told = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    lines = (told or str(error) or type(error).__name__).splitlines()
    return lines[0].replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:1_000]


def error_text(type_: str, message: str, *, retryable: bool = False) -> str:
    """An `ErrorInfo` as JSON text."""
    return ErrorInfo(type=type_, message=message, retryable=retryable).model_dump_json()
