"""What helps a run that has ended without a result: only what can help is proposed."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.engine.reserving import NEVER_FITS
from schemas.outcomes import ErrorInfo
from schemas.runs import RunState, RunView, StepState, StepView

_GRANTED_ANEW = frozenset({"DeadlineExceeded", "Late", "Expired", "Rejected", "Dropped", "Unanswered"})
"""Failures that are over when the run goes on: its clock begins again, and people are asked again."""
_OF_THE_INPUT = frozenset({"InvalidInput", "InputError", "Unstorable"})
"""What a resumed step would be given again, and fail at again."""


def next_step(view: RunView) -> str:
    """The command that helps, or the act and then the command."""
    if view.state is not RunState.FAILED:
        return f"baton runs show {view.id}"
    if view.awaited and view.parent_run is not None:
        return f"baton runs resume {view.parent_run}, which waits for this one"
    again = f"baton runs resume {view.id}"
    causes = _causes(view)
    if not causes or any(_passes(view, error) for _, error in causes):
        return again
    path, error = causes[0]
    match error.type:
        case "BudgetExceeded" if NEVER_FITS not in error.message:
            return f"baton budgets ls, and when there is room: {again}"
        case "JournalMismatch":
            return f"baton runs fork {view.id} --from {path}, which does the step anew"
        case kind if kind in _OF_THE_INPUT:
            return f"baton runs fork {view.id} --from {path} --input @FILE, with another input"
    return f"mend what the error names, and then: {again}"


def _causes(view: RunView) -> Sequence[tuple[str, ErrorInfo]]:
    """The failures that the run's failure comes from, with their paths."""
    failed = [step for step in view.steps if step.state is StepState.FAILED and step.error is not None]
    same = _innermost([step for step in failed if step.error == view.error])
    below = [step for step in failed if any(step is one or _is_below(step.path, one.path) for one in same)]
    found = [(step.path, step.error) for step in _innermost(below or failed) if step.error]
    return found or ([("", view.error)] if view.error is not None else [])


def _innermost(steps: Sequence[StepView]) -> list[StepView]:
    paths = {step.path for step in steps}
    return [step for step in steps if not any(_is_below(path, step.path) for path in paths)]


def _is_below(path: str, around: str) -> bool:
    return path != around and path.startswith(f"{around}/" if around else "")


def _passes(view: RunView, error: ErrorInfo) -> bool:
    """Whether the same step may do better when it runs again, with nothing mended."""
    if error.type == "BudgetExceeded":
        return f"run {view.id}" in error.message and NEVER_FITS not in error.message
    return error.retryable or error.type in _GRANTED_ANEW
