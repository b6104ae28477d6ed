"""Run views made by hand, for what a person is shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from schemas.outcomes import ErrorInfo, Gap
from schemas.runs import RunState, RunView, StepKind, StepState, StepView, Totals
from schemas.usage import Usage

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NOW = START + timedelta(seconds=90)
RUN = UUID("01900000-0000-7000-8000-000000000001")


def step(
    path: str,
    state: StepState,
    *,
    agent: str | None = "draft",
    kind: StepKind = StepKind.AGENT,
    attempt: int = 1,
    losses: int = 0,
    worker: str | None = None,
    took: float | None = None,
    error: str = "",
    gaps: tuple[Gap, ...] = (),
    totals: Totals | None = None,
) -> StepView:
    started = None if state in (StepState.PENDING, StepState.READY) else START
    return StepView(
        path=path,
        parent=path.rpartition("/")[0],
        kind=kind,
        agent=agent if kind is StepKind.AGENT else None,
        state=state,
        attempt=attempt,
        losses=losses,
        worker=worker,
        ready_at=START,
        started_at=started,
        finished_at=None if took is None else START + timedelta(seconds=took),
        due_at=None,
        error=ErrorInfo(type="ValueError", message=error) if error else None,
        gaps=gaps,
        usage=Usage(),
        totals=totals or Totals(),
    )


def run(
    *steps: StepView,
    state: RunState = RunState.RUNNING,
    degraded: bool = False,
    notes: Sequence[str] = (),
    error: ErrorInfo | None = None,
    totals: Totals | None = None,
) -> RunView:
    ended = state in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)
    return RunView(
        id=RUN,
        workflow="research-report",
        state=state,
        tenant="default",
        labels={},
        priority=0,
        degraded=degraded,
        created_at=START,
        started_at=START,
        finished_at=NOW if ended else None,
        paused_at=NOW if state is RunState.PAUSED else None,
        pause_reason="the provider is down" if state is RunState.PAUSED else None,
        error=error,
        input={"question": "why"},
        output={"answer": 42} if state is RunState.COMPLETED else None,
        steps=steps,
        notes=tuple(notes),
        totals=totals or Totals(),
    )
