"""What `baton runs explain` says of each kind of decision."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from orchestrator.cli.explain import _lines, _where
from orchestrator.cli.tree import names
from schemas.events import Event, EventKind
from schemas.runs import StepKind, StepState
from tests.unit.cli import views

DECIDED, WARNED = EventKind.STEP_DECIDED, EventKind.STEP_WARNING


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        (
            DECIDED,
            {"choice": "billing", "by": "rule", "confidence": 1.0, "reason": "rule 'refund' holds"},
            "[bold]0[/] clerk  went to [bold]billing[/] by rule, confidence 1: rule 'refund' holds",
        ),
        (
            DECIDED,
            {"verb": "assigned", "choice": "read ×2", "by": "plan", "reason": "both [may] know"},
            r"[bold]0[/] clerk  assigned [bold]read ×2[/] by plan: both \[may] know",
        ),
        (
            DECIDED,
            {
                "verb": "settled on",
                "choice": "a",
                "by": "judge",
                "confidence": 0.6,
                "reason": "cites the text",
            },
            "[bold]0[/] clerk  settled on [bold]a[/] by judge, confidence 0.6: cites the text",
        ),
        (
            WARNED,
            {"message": "refused an assignment to 'x': there is no worker 'x'"},
            "[bold]0[/] clerk  [yellow]refused an assignment to 'x': there is no worker 'x'[/]",
        ),
    ],
)
def test_each_decision_is_one_line(kind: EventKind, data: dict[str, Any], line: str) -> None:
    event = Event(run_id=UUID(int=1), number=1, kind=kind, path="0", at=datetime.now(UTC), data=data)

    assert _lines(event, _where(event, {"0": "clerk"})) == [line]


def test_an_answer_is_told_with_its_question() -> None:
    told = {"verb": "was", "choice": "answered", "by": "ann", "reason": "so", "question": "May it [pay]?"}
    given = Event(
        run_id=UUID(int=1),
        number=1,
        kind=DECIDED,
        path="0",
        at=datetime.now(UTC),
        data=told | {"answer": {"digest": "sha256:00", "shown": False}},
    )
    too_long = given.model_copy(update={"data": told | {"answer": {"digest": "sha256:00"}}})

    assert _lines(given, "")[1:] == [r"    May it \[pay]? false"]
    assert _lines(too_long, "")[1:] == [r"    May it \[pay]?"]


def test_steps_are_named_beside_their_paths() -> None:
    view = views.run(
        views.step("0", StepState.OPEN, kind=StepKind.ROUTE),
        views.step("0/by", StepState.DONE, agent="clerk"),
    )
    assert names(view) == {"0": "route", "0/by": "clerk"}
    of_run = Event(run_id=view.id, number=1, kind=WARNED, path="", at=datetime.now(UTC), data={})
    assert _where(of_run, names(view)) == "[bold]run[/]"
