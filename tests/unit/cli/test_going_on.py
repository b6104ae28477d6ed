"""What is proposed for a run that failed: only what can help it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import typer

from orchestrator import Client
from orchestrator.cli.going_on import next_step
from orchestrator.cli.submit import stay
from schemas.outcomes import ErrorInfo
from schemas.runs import RunState, RunView, StepKind, StepState, StepView
from tests.unit.cli import views
from tests.unit.cli.views import RUN

RESUME = f"baton runs resume {RUN}"


def error(kind: str, message: str = "it broke", *, retryable: bool = False) -> ErrorInfo:
    return ErrorInfo(type=kind, message=message, retryable=retryable)


def failed(path: str, why: ErrorInfo, kind: StepKind = StepKind.AGENT) -> StepView:
    return views.step(path, StepState.FAILED, kind=kind).model_copy(update={"error": why})


def ended(why: ErrorInfo, *steps: StepView) -> RunView:
    whole = failed("", why, StepKind.PIPELINE)
    return views.run(whole, *(steps or [failed("0", why)]), state=RunState.FAILED, error=why)


@pytest.mark.parametrize(
    "why",
    [
        error("ModelFailed", retryable=True),
        error("DeadlineExceeded"),
        error("Rejected"),
        error("BudgetExceeded", f"the budget of run {RUN} is used up: 12 of 10 tokens"),
        error("BudgetExceeded", f"openai:x was not called: 0 of 10 are left of the budget of run {RUN}"),
    ],
)
def test_what_passes_is_resumed(why: ErrorInfo) -> None:
    assert next_step(ended(why)) == RESUME


@pytest.mark.parametrize("kind", ["Permanent", "ModelRefused", "OutputRefused"])
def test_what_fails_for_good_has_to_be_mended_first(kind: str) -> None:
    assert next_step(ended(error(kind))) == f"mend what the error names, and then: {RESUME}"


def test_an_input_that_does_not_fit_is_replaced_where_it_came_in() -> None:
    why = error("InvalidInput")
    view = ended(why, failed("0", why, StepKind.FAN_OUT), failed("0/a", why))
    assert next_step(view) == f"baton runs fork {RUN} --from 0/a --input @FILE, with another input"


def test_a_journal_that_does_not_fit_any_more_is_left_behind() -> None:
    assert next_step(ended(error("JournalMismatch"))).startswith(f"baton runs fork {RUN} --from 0,")


def test_a_budget_of_an_agent_is_looked_at_first() -> None:
    why = error("BudgetExceeded", "x was not called: 0 of 5 are left of the budget of agent clerk per day")
    assert next_step(ended(why)) == f"baton budgets ls, and when there is room: {RESUME}"


@pytest.mark.parametrize("account", [f"run {RUN}", "agent clerk per day"])
def test_what_never_fits_into_a_budget_has_to_be_mended_first(account: str) -> None:
    said = f"x was not called: it may consume 9, and 5 of 5 are left of the budget of {account}; it never fits: give"
    assert next_step(ended(error("BudgetExceeded", said))) == f"mend what the error names, and then: {RESUME}"


def test_of_branches_that_failed_one_that_may_do_better_is_enough() -> None:
    why = error("BranchesFailed", "1 of 3 branches succeeded, 2 are needed")
    around = failed("0", why, StepKind.FAN_OUT)
    broken = failed("0/a", error("Permanent"))
    assert next_step(ended(why, around, broken)).startswith("mend")
    assert next_step(ended(why, around, broken, failed("0/b", error("OSError", retryable=True)))) == RESUME


def test_a_gap_elsewhere_says_nothing_of_why_the_run_failed() -> None:
    why = error("Permanent", "no key")
    gap = failed("0/a", error("OSError", retryable=True))
    assert next_step(ended(why, gap, failed("1", why))).startswith("mend")


def test_a_child_is_resumed_with_the_run_that_waits_for_it() -> None:
    parent = views.RUN.__class__(int=7)
    view = ended(error("OSError", retryable=True)).model_copy(
        update={"parent_run": parent, "parent_step": "0", "awaited": True}
    )
    assert next_step(view) == f"baton runs resume {parent}, which waits for this one"


def test_a_cancelled_run_cannot_go_on() -> None:
    assert next_step(views.run(state=RunState.CANCELLED)) == f"baton runs show {RUN}"


def test_a_run_that_is_watched_ends_with_its_whole_error(capsys: pytest.CaptureFixture[str]) -> None:
    # Its line among the events is cut where the terminal ends
    long = f"agent clerk: set {'X' * 300}_KEY in the environment of the worker"
    view = ended(error("Permanent", long))
    client = SimpleNamespace(run=lambda _: view, events=lambda *_: [])

    with pytest.raises(typer.Exit):
        stay(cast("Client", client), RUN, json=False)

    assert f"The run ended as failed: {long}\n" in capsys.readouterr().err
