"""Runs that have ended become results, and results of two definitions a comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from orchestrator.evaluation.checks import Check, CheckError
from orchestrator.evaluation.running import CaseRun, Evaluator
from schemas.evaluations import Case, CaseResult, Change, Comparison, Evaluation, Measured
from schemas.runs import RUN_ENDED, RunFigures, RunState
from schemas.workflows import Workflow

Output = Callable[[UUID], Any]
"""What a completed run has produced."""

_EQUAL = 1e-9


def evaluate(
    runner: Evaluator,
    output: Output,
    cases: Sequence[Case],
    check: Check,
    definition: Workflow,
    against: Workflow | None = None,
) -> Evaluation:
    """Run every case, twice if there is somebody to compare with, and judge what comes out."""
    definitions = [definition] if against is None else [definition, against]
    # Side by side, so that both find the pools equally busy.
    jobs = [CaseRun(one, case) for case in cases for one in definitions]
    stands = runner.run(jobs)
    measured = [
        Measured(
            workflow=one.name,
            version=one.version,
            definition=one.id,
            results=tuple(
                _result(job.case, stand, check, output)
                for job, stand in zip(jobs, stands, strict=True)
                if job.workflow is one
            ),
        )
        for one in definitions
    ]
    if against is None:
        return Evaluation(name=runner.name, measured=measured[0])
    ours, theirs = measured
    return Evaluation(
        name=runner.name, measured=ours, against=theirs, comparison=compare(theirs.results, ours.results)
    )


def compare(before: Iterable[CaseResult], after: Iterable[CaseResult]) -> Comparison:
    """What scores better or worse than before, the largest difference first."""
    changes = [
        Change(id=new.id, before=old.score, after=new.score, run_before=old.run, run_after=new.run)
        for old, new in zip(before, after, strict=True)
    ]
    better = [one for one in changes if one.after > one.before + _EQUAL]
    worse = [one for one in changes if one.after < one.before - _EQUAL]
    return Comparison(
        better=tuple(sorted(better, key=_difference, reverse=True)),
        worse=tuple(sorted(worse, key=_difference)),
        same=len(changes) - len(better) - len(worse),
    )


def _difference(change: Change) -> float:
    return change.after - change.before


def _result(case: Case, stand: RunFigures | None, check: Check, output: Output) -> CaseResult:
    if stand is None:
        return CaseResult(id=case.id, run=None, ending="unfinished", reason="it was not begun in time")
    told: dict[str, Any] = {
        "id": case.id,
        "run": stand.id,
        "seconds": stand.seconds,
        "usage": stand.usage,
        "degraded": stand.degraded,
    }
    if stand.state not in RUN_ENDED:
        return CaseResult(**told, ending="unfinished", reason=f"its run is {stand.state}")
    if stand.state is not RunState.COMPLETED:
        reason = stand.error.message if stand.error is not None else f"its run was {stand.state}"
        return CaseResult(**told, ending="failed", reason=reason)
    produced = output(stand.id)
    try:
        scores = check.scores(case, produced)
    except CheckError as error:
        return CaseResult(**told, ending="check_error", reason=str(error), output=produced)
    return CaseResult(
        **told, ending="scored", scores=scores, output=produced, reason=check.why(case, produced)
    )
