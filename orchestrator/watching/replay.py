"""A run as its events tell it: events in, states out, nothing else is read.

What follows of necessity has no event of its own and is worked out from the plan, as `orchestrator.engine.advance`
does: a stage that is done opens the next one, a composite that opens opens its first parts, a cancelled run cancels
every step that has not ended. What depends on more than the events before it is told: how many items an `each` found,
which waiting branches may start, that a join opened, what a resumed run does again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from orchestrator.definitions.plan import Plan, implied, parent_of
from schemas.errors import NotFound
from schemas.events import Event, EventKind
from schemas.outcomes import ErrorInfo
from schemas.runs import STEP_ENDED, RunState, StepState
from schemas.usage import Usage
from schemas.workflows import (
    Debate,
    Each,
    FanOut,
    Joining,
    Leaf,
    Loop,
    Node,
    Pipeline,
    Round,
    Route,
    Stage,
    Supervise,
)

_STATES = {
    EventKind.STEP_STARTED: StepState.RUNNING,
    EventKind.STEP_RETRYING: StepState.READY,
    EventKind.STEP_LOST: StepState.READY,
    EventKind.STEP_RELEASED: StepState.READY,
    EventKind.STEP_DEAD: StepState.DEAD,
    EventKind.STEP_WAITING: StepState.WAITING,
    EventKind.STEP_ANSWERED: StepState.READY,
    EventKind.STEP_DONE: StepState.DONE,
    EventKind.STEP_FAILED: StepState.FAILED,
    EventKind.STEP_SKIPPED: StepState.SKIPPED,
}


@dataclass
class Step:
    """A step at one moment of the replay."""

    path: str
    node: Node
    ordinal: int
    state: StepState
    attempt: int = 0
    losses: int = 0
    worker: str | None = None
    ready_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    due_at: datetime | None = None
    error: ErrorInfo | None = None
    usage: Usage = field(default_factory=Usage)
    is_degraded: bool = False
    """Whether a branch is missing from what the run produced that it waited for."""


def until(events: Sequence[Event], at: int | datetime) -> Sequence[Event]:
    """The events of a run up to the one numbered `at`, or up to the last one that had happened at that time.

    A time without a zone is one of this machine's. Raises `NotFound` if there is no such event.
    """
    if isinstance(at, datetime):
        moment = at.astimezone()
        at = max((event.number for event in events if event.at <= moment), default=0)
        if at == 0:
            raise _nothing(events, f"it began at {events[0].at.isoformat()}")
    if not 1 <= at <= len(events):
        raise _nothing(events, f"it has no event {at}, its events have the numbers 1 to {len(events)}")
    return events[:at]


def _nothing(events: Sequence[Event], why: str) -> NotFound:
    run_id = events[0].run_id
    return NotFound(
        f"run {run_id} cannot be shown at that moment: {why}", next_step=f"baton runs events {run_id}"
    )


class Replay:
    """A run as it was after the events that were applied so far."""

    def __init__(self, plan: Plan, events: Iterable[Event] = ()) -> None:
        self._plan = plan
        self._parents: set[str] = set()
        self.state = RunState.QUEUED
        self.degraded = False
        self.started_at: datetime | None = None
        self.finished_at: datetime | None = None
        self.paused_at: datetime | None = None
        self.pause_reason: str | None = None
        self.error: ErrorInfo | None = None
        self.steps: dict[str, Step] = {}
        """By path."""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Go on by one event, the next one of the run."""
        if event.kind.startswith("run."):
            self._run(event)
        elif event.kind is EventKind.STEP_OPENED:
            self._opened(event)
        elif event.kind is EventKind.STEP_ESCALATED:
            self.steps[event.path].due_at = _in(event.data, event.at)
        elif event.kind is EventKind.STEP_COPIED:
            self._copied(event)
        elif event.kind is EventKind.STEP_LIMITED:
            self._limited(self.steps[event.path], event)
        elif event.kind in _STATES:
            self._moved(self.steps[event.path], event)

    # --- the run ------------------------------------------------------------------------------------------

    def _run(self, event: Event) -> None:
        if event.kind in (EventKind.RUN_BUDGET_WARNING, EventKind.RUN_BUDGET_EXHAUSTED):
            return
        if event.kind not in (EventKind.RUN_STARTED, EventKind.RUN_PAUSED):
            self.paused_at = self.pause_reason = None
        match event.kind:
            case EventKind.RUN_SUBMITTED:
                if "forked_from" not in event.data:
                    self._open("0", event.at)
            case EventKind.RUN_FORKED:
                self._open(event.data["step"], event.at)
            case EventKind.RUN_STARTED:
                self.state, self.started_at = RunState.RUNNING, event.at
            case EventKind.RUN_PAUSED:
                self.state = RunState.PAUSED
                self.paused_at, self.pause_reason = event.at, event.data["reason"]
            case EventKind.RUN_RESUMED:
                self._resume()
            case EventKind.RUN_COMPLETED:
                self._end(RunState.COMPLETED, event)
            case EventKind.RUN_FAILED:
                self._end(RunState.FAILED, event)
            case EventKind.RUN_CANCELLED:
                self._cancel(event)

    def _resume(self) -> None:
        was_paused = self.state is RunState.PAUSED
        self.state = RunState.QUEUED if self.started_at is None else RunState.RUNNING
        if not was_paused:
            self.finished_at, self.error, self.degraded = None, None, False

    def _end(self, state: RunState, event: Event) -> None:
        gaps = (StepState.FAILED, StepState.SKIPPED)
        self.state, self.finished_at, self.error = state, event.at, _error(event.data)
        self.degraded = any(
            step.is_degraded or (step.state in gaps and step.ordinal >= 0) for step in self.steps.values()
        )

    def _cancel(self, event: Event) -> None:
        self.state, self.finished_at = RunState.CANCELLED, event.at
        self.error = ErrorInfo(type="Cancelled", message=event.data["reason"], retryable=False)
        for step in self.steps.values():
            if step.state not in STEP_ENDED:
                step.state, step.finished_at, step.due_at = StepState.CANCELLED, event.at, None

    # --- steps that come to be, or may go on --------------------------------------------------------------

    def _opened(self, event: Event) -> None:
        if "items" in event.data:
            for index in range(event.data["items"]):
                self._open(f"{event.path}/{index}", event.at, waits=index >= event.data["started"])
            return
        for path, state in event.data["steps"].items():
            self._set(path, StepState(state), event.at)

    def _copied(self, event: Event) -> None:
        """Steps of another run, in the states in which a forked run began with them."""
        errors = event.data["errors"]
        for path, state in event.data["steps"].items():
            step = self._add(path, StepState(state), event.at)
            step.error = _error(errors.get(path, {}))
            step.finished_at = event.at if step.state in STEP_ENDED else None
            step.is_degraded = step.state is StepState.DONE and step.error is not None

    def _set(self, path: str, state: StepState, at: datetime) -> None:
        """A step that was told to be in this state now."""
        step = self.steps.get(path) or self._add(path, state, at)
        step.state, step.ready_at = state, at
        if state is StepState.PENDING:
            step.error = step.finished_at = step.due_at = None
            step.losses = 0
        elif state is StepState.OPEN:
            self._enter(step, at)
        elif step.ordinal < 0:
            self.steps[parent_of(path)].due_at = None

    def _open(self, path: str, at: datetime, *, waits: bool = False) -> None:
        step = self._add(path, StepState.PENDING, at)
        if not waits:
            step.state = StepState.READY if isinstance(step.node, Leaf) else StepState.OPEN
            self._enter(step, at)

    def _enter(self, step: Step, at: datetime) -> None:
        """Open the first parts of a composite that has none; the items of an `each` are told when they are known."""
        if isinstance(step.node, Joining) and step.node.within is not None:
            step.due_at = at + timedelta(seconds=step.node.within)
        if step.path in self._parents:
            return
        match step.node:
            case Pipeline() if implied(self._plan, step.path):
                self._open(f"{step.path}/0", at)
            case FanOut(branches=branches, window=window):
                for index, name in enumerate(branches):
                    self._open(f"{step.path}/{name}", at, waits=index >= window)

    def _add(self, path: str, state: StepState, at: datetime) -> Step:
        above, _, segment = path.rpartition("/")
        node = self._plan.at(path).node
        step = Step(path, node, _ordinal(self._plan.at(above).node, segment), state, ready_at=at)
        self.steps[path] = step
        self._parents.add(above)
        return step

    # --- steps that move ----------------------------------------------------------------------------------

    def _moved(self, step: Step, event: Event) -> None:
        data, at = event.data, event.at
        if "last" not in data:  # the loss after which a step is set aside, which is told next
            step.state, step.due_at = _STATES[event.kind], None
        match event.kind:
            case EventKind.STEP_STARTED:
                step.attempt, step.worker, step.started_at = data["attempt"], data["worker"], at
            case EventKind.STEP_LOST:
                step.losses, step.ready_at = step.losses + 1, at
            case EventKind.STEP_RELEASED:
                step.ready_at = at
                if data.get("by") == "hand":  # its losses were forgiven
                    step.losses = 0
            case EventKind.STEP_WAITING:
                step.usage = _usage(data)
                step.due_at = None if "held" in data else _in(data, at)
            case EventKind.STEP_ANSWERED:
                step.ready_at = at
            case EventKind.STEP_RETRYING:
                step.error, step.usage = _error(data), _usage(data)
                step.due_at = at + timedelta(seconds=data["retry_in"])
            case EventKind.STEP_DONE | EventKind.STEP_FAILED | EventKind.STEP_SKIPPED:
                step.error, step.usage, step.finished_at = _error(data), _usage(data), at
                step.is_degraded = "degraded" in data
        if event.kind is EventKind.STEP_DONE:
            self._follow(step.path, at)

    def _limited(self, step: Step, event: Event) -> None:
        """It was not begun, or its attempt has ended before a call."""
        if "attempt" in event.data:
            step.state, step.usage, step.due_at = (
                StepState.READY,
                _usage(event.data),
                _in(event.data, event.at),
            )

    def _follow(self, path: str, at: datetime) -> None:
        """Open the stage after one that is done."""
        above, _, segment = path.rpartition("/")
        node = self._plan.at(above).node
        if isinstance(node, Pipeline) and implied(self._plan, above) and int(segment) + 1 < len(node.stages):
            self._open(f"{above}/{int(segment) + 1}".lstrip("/"), at)


def _ordinal(parent: Node, segment: str) -> int:
    """Where a step stands among its siblings: as in its row."""
    match parent:
        case Joining() if segment == "join":
            return -1
        case FanOut(branches=branches):
            return list(branches).index(segment)
        case Each() | Loop() | Supervise():
            return int(segment)
        case Round():
            return ("plan", "work", "review").index(segment)
        case Debate():
            return ("positions", "judge").index(segment)
        case Route() if segment == "by":
            return -1
        case Stage() if segment == "else":
            return 1
    return 0


def _in(data: Mapping[str, Any], at: datetime) -> datetime | None:
    return at + timedelta(seconds=data["due_in"]) if "due_in" in data else None


def _error(data: Mapping[str, Any]) -> ErrorInfo | None:
    if "error" not in data:
        return None
    return ErrorInfo(type=data.get("error_type", "Error"), message=data["error"])


def _usage(data: Mapping[str, Any]) -> Usage:
    return Usage.model_validate(data.get("usage") or {})
