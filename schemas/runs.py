"""Runs and steps: their states, the moves between them, and how they are shown.

A run:                                            A step:

    queued ──> running ──> completed                  pending ──> ready ──> running ──> done
       │        │  ^  └──> failed ──┐                    │         │ ^        │ └────> failed ─┐
       │        │  └────────────────┘ resume             │         │ └────────┘ retry, lost    │ resume
       └────────┴────────> cancelled                     └─────────┴──────────┴──> skipped,    │
                                                                                   cancelled   v
    queued and running may be `paused` and            a step with parts is `open` instead of    ready
    come back by resume, as does one that failed      ready and running; one that killed its    or open
    before it began; a paused run can still end       workers too often is `dead` until somebody
    with what was running                             retries or drops it; one that waits for a
                                                      decision or an event is `waiting`
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from schemas.base import Frozen
from schemas.events import Event
from schemas.outcomes import ErrorInfo, Gap
from schemas.usage import Usage


class RunState(StrEnum):
    """Where a run stands; `RUN_MOVES` says how it may go on."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """Where a step stands; `STEP_MOVES` says how it may go on. An `open` one waits for its parts."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    OPEN = "open"
    WAITING = "waiting"
    DEAD = "dead"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class StepKind(StrEnum):
    """What a step is in its workflow: work of an agent, or a pattern or a part of one, made of other steps."""

    AGENT = "agent"
    PIPELINE = "pipeline"
    FAN_OUT = "fan_out"
    EACH = "each"
    STAGE = "stage"
    ROUTE = "route"
    LOOP = "loop"
    APPROVE = "approve"
    SUPERVISE = "supervise"
    ROUND = "round"
    ASSIGNED = "assigned"
    DEBATE = "debate"
    WAIT_FOR = "wait_for"
    CHILD = "child"


_RUN_ENDINGS = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED})
RUN_MOVES: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: _RUN_ENDINGS | {RunState.RUNNING, RunState.PAUSED},
    RunState.RUNNING: _RUN_ENDINGS | {RunState.PAUSED},
    RunState.PAUSED: _RUN_ENDINGS | {RunState.QUEUED, RunState.RUNNING},
    RunState.FAILED: frozenset({RunState.QUEUED, RunState.RUNNING, RunState.CANCELLED}),
    RunState.COMPLETED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

_ENDINGS = frozenset({StepState.SKIPPED, StepState.CANCELLED})
STEP_MOVES: dict[StepState, frozenset[StepState]] = {
    StepState.PENDING: _ENDINGS | {StepState.READY, StepState.OPEN},
    StepState.READY: _ENDINGS | {StepState.RUNNING},
    StepState.RUNNING: _ENDINGS
    | {StepState.DONE, StepState.FAILED, StepState.READY, StepState.WAITING, StepState.DEAD},
    StepState.WAITING: _ENDINGS | {StepState.READY, StepState.OPEN, StepState.DONE, StepState.FAILED},
    StepState.DEAD: _ENDINGS | {StepState.READY, StepState.FAILED},
    StepState.OPEN: _ENDINGS | {StepState.DONE, StepState.FAILED, StepState.WAITING},
    StepState.FAILED: frozenset({StepState.READY, StepState.OPEN, StepState.PENDING}),
    StepState.SKIPPED: frozenset({StepState.READY, StepState.OPEN, StepState.PENDING}),
    StepState.DONE: frozenset(),
    StepState.CANCELLED: frozenset(),
}

RUN_LIVE = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.PAUSED})
RUN_ENDED = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED})
STEP_ENDED = frozenset({StepState.DONE, StepState.FAILED, StepState.SKIPPED, StepState.CANCELLED})


class RunSummary(Frozen):
    """One line of a listing of runs."""

    id: UUID
    workflow: str
    state: RunState
    tenant: str
    labels: dict[str, str]
    priority: int
    degraded: bool
    """True when a branch is missing from what the run produced."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    paused_at: datetime | None
    pause_reason: str | None
    error: ErrorInfo | None
    forked_from: UUID | None = None
    """The run whose checkpoints this one began with."""
    forked_at: str | None = None
    """The step from which it went its own way."""
    parent_run: UUID | None = None
    """The run of which a step started this one."""
    parent_step: str | None = None
    awaited: bool | None = None
    """Whether that step waits for it, and whatever ends that run ends this one."""


class RunFigures(Frozen):
    """How a run stands, and what it has consumed: all its attempts, those that failed included."""

    id: UUID
    state: RunState
    degraded: bool
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorInfo | None
    usage: Usage

    @property
    def seconds(self) -> float | None:
        """From the start of its first step to its end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class Totals(Frozen):
    """What a step and everything below it came to, attempts that failed included."""

    attempts: int = 0
    """Attempts that have ended."""
    usage: Usage = Usage()
    busy: float = 0.0
    """Seconds that these attempts took, added up."""
    began_at: datetime | None = None
    """When the first of them started."""
    seconds: float | None = None
    """From then until the step ended; None before that."""


class StepView(Frozen):
    """One step as it stands, without its payloads."""

    path: str
    parent: str
    kind: StepKind
    agent: str | None
    state: StepState
    attempt: int
    losses: int
    """Times that a worker died while it held this step."""
    worker: str | None
    """The name of the worker of the latest attempt."""
    ready_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None
    """When the step may start, or, for a fan-out, when it stops waiting for branches."""
    error: ErrorInfo | None
    gaps: tuple[Gap, ...]
    usage: Usage
    """Of its latest attempt."""
    totals: Totals = Totals()
    child: UUID | None = None
    """The run that it started."""
    limited: str | None = None
    """The limit of its agent that it waits for."""


class PartialOutput(Frozen):
    """What a step had produced by which a run that ended without a result came to be as far as it did."""

    run_id: UUID
    """The run, or one that it waited for."""
    path: str
    agent: str | None
    """None for a pattern whose output is its own: a debate, a fan-out that nobody joins."""
    output: Any


class RunView(RunSummary):
    """One run with its steps, sorted by path, and what to tell a person about it."""

    input: Any
    output: Any
    partial: tuple[PartialOutput, ...] = ()
    """Of a run that failed or was cancelled: what its last finished stages produced. It has no result for which a step
    was left out, and a hundred of them at most are told."""
    steps: tuple[StepView, ...]
    notes: tuple[str, ...]
    """Sentences that explain why nothing moves, e.g. a queue that no worker serves."""
    forks: tuple[UUID, ...] = ()
    """The runs that were forked from this one, the oldest first."""
    totals: Totals = Totals()
    children: tuple[RunSummary, ...] = ()
    """The runs that its steps started, the latest first, as far as they are among the latest thousand."""


class RunMoment(RunView):
    """A run as it was after one of its events, as far as the events up to then tell."""

    event: Event
    """The last event that had happened."""
    events: int
    """How many events the run has by now."""
    outputs: dict[str, Any]
    """By path, what the agents had produced by then."""


class PoolView(Frozen):
    """The workers of one agent, and the work that waits for them."""

    agent: str
    queue: str
    workers: int
    """Live worker processes."""
    concurrency: int
    """Attempts that they can run at a time."""
    ready: int
    running: int


class WorkerView(Frozen):
    """One worker process."""

    id: UUID
    name: str
    queues: tuple[str, ...]
    concurrency: int
    pool: str
    alive: bool
    started_at: datetime
    seen_at: datetime
