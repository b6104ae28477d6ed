"""What many results say together."""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator.evaluation.measuring import compare
from schemas.evaluations import CaseResult, Measured, Routed, RouteEvaluation, percentile
from schemas.usage import Usage

RUN = UUID(int=1)


def result(id: str, score: float | None, seconds: float | None = None, **scores: float) -> CaseResult:
    return CaseResult(
        id=id,
        run=RUN,
        ending="failed" if score is None and not scores else "scored",
        scores=scores or ({} if score is None else {"score": score}),
        seconds=seconds,
        usage=Usage(tokens=10, usd=0.5),
    )


def test_a_case_that_failed_counts_as_nothing() -> None:
    measured = Measured(
        workflow="w",
        version=1,
        definition="d",
        results=(result("a", 1.0, 1), result("b", None, 3), result("c", 0.5, 2), result("d", 0.0)),
    )
    assert measured.quality == pytest.approx(1.5 / 4)
    assert measured.scores == {"score": 0.5}
    assert measured.endings == {"scored": 3, "failed": 1, "check_error": 0, "unfinished": 0}
    assert measured.usage == Usage(tokens=40, usd=2.0)
    assert (measured.p50, measured.p95) == (2, 3)


def test_several_scores_count_the_same() -> None:
    assert result("a", None, tone=1.0, facts=0.5).score == 0.75


def test_percentiles_are_values_that_occurred() -> None:
    hundred = [float(n) for n in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert percentile([7.0], 0.95) == 7
    assert percentile([], 0.5) is None


def test_two_definitions_case_by_case() -> None:
    before = [result("a", 0.2), result("b", 1.0), result("c", 0.5), result("d", None), result("e", 1.0)]
    after = [result("a", 0.4), result("b", None), result("c", 0.5), result("d", 1.0), result("e", 0.9)]

    compared = compare(before, after)

    assert [(one.id, one.before, one.after) for one in compared.better] == [("d", 0, 1), ("a", 0.2, 0.4)]
    assert [one.id for one in compared.worse] == ["b", "e"]
    assert compared.same == 1


def test_the_shares_of_a_router() -> None:
    def routed(
        expected: str, choice: str | None, by: str, rule: str | None = None, unsure: bool = False
    ) -> Routed:
        return Routed(id="x", expected=expected, choice=choice, by=by, rule=rule, unsure=unsure)

    told = RouteEvaluation(
        name="n",
        workflow="w",
        version=1,
        definition="d",
        step="0",
        choices=("a", "b"),
        results=(
            routed("a", "a", "rule", "first"),
            routed("a", "b", "rule", "second"),
            routed("b", "b", "agent"),
            routed("b", "b", "fallback", unsure=True),
            routed("a", None, "nobody"),
        ),
    )
    assert told.accuracy == pytest.approx(3 / 5)
    assert told.left_open == pytest.approx(3 / 5)
    assert (told.unsure, told.fallback) == (0.2, 0.2)
    assert told.confusion == {"a": {"a": 1, "b": 1, "nowhere": 1}, "b": {"b": 2}}
    assert [(one.name, one.decided, one.right) for one in told.deciders] == [
        ("rule first", 1, 1),
        ("rule second", 1, 0),
        ("agent", 1, 1),
        ("fallback", 1, 1),
        ("nobody", 1, 0),
    ]
