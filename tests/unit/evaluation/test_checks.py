"""What a check may take and return, and what is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.evaluation.checks import CheckError, load_check
from schemas.errors import InputError
from schemas.evaluations import Case

JUDGES = "tests.unit.evaluation.judges"


def scores(name: str | None, output: Any, expected: Any = None, id: str = "1") -> dict[str, float]:
    check = load_check(f"{JUDGES}:{name}" if name else None)
    return check.scores(Case(id=id, input="in", expected=expected, line=1), output)


@pytest.mark.parametrize(
    ("name", "output", "expected", "found"),
    [
        ("right", 1, 1, {"score": 1.0}),
        ("right", 1, 2, {"score": 0.0}),
        (None, {"a": [1]}, {"a": [1]}, {"score": 1.0}),
        (None, "a", "b", {"score": 0.0}),
        ("graded", "ABC", "ABD", {"letters": 2 / 3, "loud": 1.0}),
        ("later", "x", None, {"score": 1.0}),
    ],
)
def test_a_verdict_becomes_scores(
    name: str | None, output: Any, expected: Any, found: dict[str, float]
) -> None:
    assert scores(name, output, expected) == pytest.approx(found)


def test_a_check_is_given_what_it_asks_for() -> None:
    assert scores("later", "x", id="half") == {"score": 0.5}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fussy", "ValueError: no b, please"),
        ("wordy", "the check returned 'very good' instead of true, false or a number"),
        ("endless", "the check's 'length' is inf instead of true, false or a number"),
        ("nameless", "the check returned no score"),
    ],
)
def test_a_check_that_cannot_judge_says_why(name: str, reason: str) -> None:
    with pytest.raises(CheckError, match=reason):
        scores(name, "b")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("right", "it is not like MODULE:FUNCTION"),
        (f"{JUDGES}:no_such", "has no function 'no_such'"),
        (f"{JUDGES}:number", "has no function 'number'"),
        (f"{JUDGES}:needy", "it takes mood, and is given only output, expected, input, id"),
        (f"{JUDGES}:blind", "must take output, not only expected"),
    ],
)
def test_what_is_no_check_is_refused_before_anything_runs(given: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_check(given)


@pytest.mark.parametrize(
    ("output", "expected", "told"),
    [
        ({"ok": True, "why": "x"}, {"ok": True}, "not expected: why"),
        (
            {"ok": False, "n": 1},
            {"ok": True, "n": 1, "to": "a"},
            "to: it is missing; ok: false instead of true",
        ),
        ("a", "b", '"a" instead of "b"'),
        ("a" * 100, ["b"], f'"{"a" * 59}… instead of ["b"]'),
        ({"ok": True}, {"ok": True}, ""),
    ],
)
def test_what_differs_from_the_expectation_is_told(output: Any, expected: Any, told: str) -> None:
    case = Case(id="1", input="in", expected=expected, line=1)

    assert load_check(None).why(case, output) == told
    assert load_check(f"{JUDGES}:right").why(case, output) == ""
