"""Cases as real runs, driven without workers: found again, bounded, judged, compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest

from orchestrator import fan_out, route, rule, workflow
from orchestrator.definitions.compile import compile_workflow
from orchestrator.engine import Finished, Submission, Submitted
from orchestrator.evaluation.checks import load_check
from orchestrator.evaluation.measuring import evaluate
from orchestrator.evaluation.routing import evaluate_route, find_router
from orchestrator.evaluation.running import STALLED, CaseRun, Evaluator
from orchestrator.identify import new_id
from schemas.errors import IdempotencyConflict, NotFound
from schemas.evaluations import Case
from schemas.outcomes import Choice, Done, ErrorInfo, Failed
from schemas.runs import RunFigures
from schemas.usage import Usage
from schemas.workflows import Route, Workflow
from tests.integration.engine.bench import Act, Bench, Boom, named

SHOUT = workflow("shout", named("shout"))
TWICE = workflow("shout", named("shout") >> named("shout"), version=2)
CASES = [
    Case(id=word, input=word, expected=word.upper(), line=number)
    for number, word in enumerate(["a", "b", "c"], 1)
]
RIGHT = load_check("tests.unit.evaluation.judges:right")


class _Source:
    """Submits to a bench, and counts how many runs are under way."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.most = 0

    def submit(
        self, workflow: Workflow, input: Any, *, idempotency_key: str, labels: Mapping[str, str]
    ) -> _Handle:
        submission = Submission(new_id(), json.dumps(input), idempotency_key=idempotency_key, labels=labels)
        (answer,), ready = self.bench.engine.submit(compile_workflow(workflow), [submission])
        self.bench.messages += ready
        going = "SELECT count(*) FROM runs WHERE state IN ('queued', 'running')"
        self.most = max(self.most, int(self.bench.query(going)[0][0]))
        return _Handle(answer)

    def figures(self, runs: Sequence[UUID]) -> list[RunFigures]:
        return self.bench.views.figures(runs)


class _Handle:
    def __init__(self, answer: Submitted) -> None:
        self.id = answer.run_id


def upper(agent: str, value: Any, _: Any) -> Any:
    return value.upper()


def runner(bench: Bench, act: Act = upper, name: str = "first", **more: Any) -> Evaluator:
    """Whenever it waits, the bench works."""
    return Evaluator(_Source(bench), name, pause=lambda _: bench.drain(act), **more)


def output(bench: Bench) -> Any:
    return lambda run: bench.end(run).output


def runs(bench: Bench) -> int:
    return int(bench.query("SELECT count(*) FROM runs")[0][0])


def test_every_case_is_run_and_judged(bench: Bench) -> None:
    told = evaluate(runner(bench, labels={"team": "x"}), output(bench), CASES, RIGHT, SHOUT)

    assert [one.ending for one in told.measured.results] == ["scored"] * 3
    assert told.measured.quality == 1
    assert told.measured.p95 is not None
    labels = bench.query("SELECT labels FROM runs ORDER BY created_at")
    assert [row[0] for row in labels] == [
        {"team": "x", "evaluation": "first", "case": case.id} for case in CASES
    ]


def test_without_a_check_it_is_told_what_differs(bench: Bench) -> None:
    wrong = CASES[0].model_copy(update={"expected": "Z"})

    (one,) = evaluate(runner(bench), output(bench), [wrong], load_check(None), SHOUT).measured.results

    assert (one.ending, one.score, one.reason) == ("scored", 0, '"A" instead of "Z"')


def test_under_the_same_name_nothing_is_run_twice(bench: Bench) -> None:
    first = evaluate(runner(bench), output(bench), CASES, RIGHT, SHOUT)
    again = evaluate(runner(bench), output(bench), CASES, RIGHT, SHOUT)

    assert [one.run for one in again.measured.results] == [one.run for one in first.measured.results]
    assert runs(bench) == 3
    evaluate(runner(bench, name="second"), output(bench), CASES, RIGHT, SHOUT)
    assert runs(bench) == 6


def test_what_was_not_finished_is_gone_on_with(bench: Bench) -> None:
    clock = iter([0.0, 0.0, *range(100, 200)])
    short = Evaluator(
        _Source(bench), "first", within=10, parallel=2, pause=lambda _: None, clock=lambda: next(clock)
    )
    cut = evaluate(short, output(bench), CASES, RIGHT, SHOUT)
    assert [one.ending for one in cut.measured.results] == ["unfinished"] * 3
    assert [one.reason for one in cut.measured.results] == [
        "its run is queued", "its run is queued", "it was not begun in time",
    ]  # fmt: skip
    assert runs(bench) == 2

    told = evaluate(runner(bench), output(bench), CASES, RIGHT, SHOUT)

    assert told.measured.quality == 1
    assert runs(bench) == 3


def test_no_more_runs_are_under_way_than_allowed(bench: Bench) -> None:
    cases = [Case(id=str(n), input=str(n), line=n) for n in range(9)]
    counting = runner(bench, parallel=2)
    counting.run([CaseRun(SHOUT, case) for case in cases])

    assert counting.source.most == 2  # type: ignore[attr-defined]
    assert runs(bench) == 9


def test_a_case_that_has_changed_is_named(bench: Bench) -> None:
    evaluate(runner(bench), output(bench), CASES, RIGHT, SHOUT)
    changed = [CASES[0].model_copy(update={"input": "other"})]
    with pytest.raises(IdempotencyConflict, match="in the evaluation 'first', case 'a' had another input"):
        evaluate(runner(bench), output(bench), changed, RIGHT, SHOUT)


def test_failures_are_told_apart_and_count_as_nothing(bench: Bench) -> None:
    def act(agent: str, value: Any, claimed: Any) -> Any:
        if value == "a":
            raise Boom("no a")
        return value.upper()

    check = load_check("tests.unit.evaluation.judges:fussy")  # raises at a b
    told = evaluate(runner(bench, act), output(bench), CASES, check, SHOUT).measured

    assert [(one.ending, one.score) for one in told.results] == [
        ("failed", 0),
        ("check_error", 0),
        ("scored", 1),
    ]
    assert "no a" in told.results[0].reason
    assert told.results[1].reason == "ValueError: no b, please"
    assert told.quality == pytest.approx(1 / 3)


def test_a_missing_branch_is_told_of(bench: Bench) -> None:
    def act(agent: str, value: Any, claimed: Any) -> Any:
        if agent == "y":
            raise Boom("y is ill")
        return value

    loose = workflow("loose", fan_out(named("x"), named("y"), require=1))
    (one,) = evaluate(
        runner(bench, act), output(bench), CASES[:1], load_check("tests.unit.evaluation.judges:later"), loose
    ).measured.results
    assert (one.ending, one.degraded) == ("scored", True)


def test_what_failed_attempts_have_consumed_counts(bench: Bench) -> None:
    """A step keeps the usage of its last attempt; the money of the others is gone, too."""
    source = _Source(bench)

    def work(_: float) -> None:
        for path in ("0", "0"):
            ready, bench.messages = bench.messages, []
            bench.fire()
            ready += bench.messages
            bench.messages = []
            for one in ready:
                claimed = bench.claim(one.run.id, path)
                usage = Usage(tokens=10, usd=0.25, model_calls=1)
                error = ErrorInfo(type="Boom", message="again")
                tried = claimed.attempt == 1
                outcome = Failed(error=error, retry_in=0, usage=usage) if tried else Done(usage=usage)
                recorded = bench.engine.record(
                    Finished(claimed.run.id, path, claimed.attempt, outcome, None if tried else '"A"')
                )
                assert recorded.accepted

    told = evaluate(Evaluator(source, "first", pause=work), output(bench), CASES[:1], RIGHT, SHOUT)
    assert told.measured.usage == Usage(tokens=20, usd=0.5, model_calls=2)


def test_two_definitions_are_compared_case_by_case(bench: Bench) -> None:
    def act(agent: str, value: Any, claimed: Any) -> Any:
        # The second version spoils what was right, but only for b.
        return value.upper() if value != "B" else "?"

    told = evaluate(runner(bench, act), output(bench), CASES, RIGHT, TWICE, SHOUT)

    assert told.against is not None
    assert told.comparison is not None
    assert (told.measured.version, told.against.version) == (2, 1)
    assert (told.measured.quality, told.against.quality) == (pytest.approx(2 / 3), 1)
    assert [(one.id, one.before, one.after) for one in told.comparison.worse] == [("b", 1, 0)]
    assert (told.comparison.better, told.comparison.same) == ((), 2)
    assert runs(bench) == 6


def test_nothing_that_moves_is_told(bench: Bench) -> None:
    told: list[UUID] = []
    now = [0.0]

    def pause(_: float) -> None:
        now[0] += STALLED / 2 + 1
        if told:
            bench.drain(upper)

    (one,) = Evaluator(_Source(bench), "first", pause=pause, clock=lambda: now[0], on_stall=told.append).run(
        [CaseRun(SHOUT, CASES[0])]
    )
    assert one is not None
    assert told == [one.id]


# --- routers ----------------------------------------------------------------------------------------------

NODE = route(
    named("billing"),
    named("technical"),
    named("person"),
    rules=[
        rule("refund", go="billing", keywords=("refund",)),
        rule("broken", go="technical", when="input.no_such_field == 1"),
    ],
    by=named("classify", gives=Choice.model_json_schema()),
    threshold=0.5,
    fallback="person",
)
DESK = workflow("desk", named("tidy") >> NODE)


def mails(**expected: str) -> list[Case]:
    return [
        Case(id=str(n), input=text.replace("_", " "), expected=way, line=n)
        for n, (text, way) in enumerate(expected.items(), 1)
    ]


def classify(agent: str, value: Any, claimed: Any) -> Any:
    assert agent == "classify", "nobody is sent anywhere"
    match value.split():
        case ["fail"]:
            raise Boom("no idea")
        case ["nonsense"]:
            return {"choose": "x"}
        case [way, sure]:
            return {"choice": way, "confidence": int(sure) / 100, "alternatives": {"odd": 0.1}}
    raise AssertionError(value)


def test_rules_decide_without_a_run_and_the_agent_only_what_they_leave_open(bench: Bench) -> None:
    path, node = find_router(compile_workflow(DESK), None)
    cases = mails(
        a_refund="billing", technical_90="technical", billing_49="technical", mars_90="person", fail="person",
        nonsense="billing",
    )  # fmt: skip
    told = evaluate_route(runner(bench, classify), output(bench), cases, DESK, path, node)

    assert [(one.choice, one.by, one.rule, one.unsure) for one in told.results] == [
        ("billing", "rule", "refund", False),
        ("technical", "agent", None, False),
        ("person", "fallback", None, True),
        ("person", "fallback", None, False),
        ("person", "fallback", None, False),
        ("person", "fallback", None, False),
    ]
    assert told.step == "1"
    assert told.results[2].reason == "classify chose 'billing' with 0.49, less than 0.5"
    assert told.results[3].reason == "classify chose 'mars', which is no way"
    assert "classify failed: " in told.results[4].reason
    assert "no idea" in told.results[4].reason
    assert told.accuracy == pytest.approx(4 / 6)
    assert told.unsure == pytest.approx(1 / 6)
    assert told.confusion["technical"] == {"technical": 1, "person": 1}
    assert runs(bench) == 5

    again = evaluate_route(runner(bench, classify), output(bench), cases, DESK, path, node)
    assert again == told
    assert runs(bench) == 5


def test_a_decision_is_that_of_a_real_run(bench: Bench) -> None:
    """The same cases through the whole workflow, by the engine alone."""
    path, node = find_router(compile_workflow(DESK), "1")
    cases = mails(a_refund="billing", technical_90="technical", billing_49="x", mars_90="x", nonsense="x")
    told = evaluate_route(runner(bench, classify), output(bench), cases, DESK, path, node)

    def act(agent: str, value: Any, claimed: Any) -> Any:
        return classify(agent, value, claimed) if agent == "classify" else value

    for case, routed in zip(cases, told.results, strict=True):
        run = bench.submit(DESK, case.input)
        bench.drain(act)
        (decided,) = [event for event in bench.events(run) if event.kind == "step.decided"]
        assert (decided.data["choice"], decided.data["by"]) == (routed.choice, routed.by)
        assert decided.data["reason"] == routed.reason


def test_an_agent_that_does_not_answer_in_time_decided_nothing(bench: Bench) -> None:
    path, node = find_router(compile_workflow(DESK), None)
    clock = iter([0.0, 0.0, *range(100, 200)])
    short = Evaluator(_Source(bench), "first", within=10, pause=lambda _: None, clock=lambda: next(clock))
    (one,) = evaluate_route(short, output(bench), mails(technical_90="technical"), DESK, path, node).results
    assert (one.choice, one.by, one.reason) == (None, "nobody", "classify has not answered in time")


def test_without_an_agent_what_no_rule_decides_goes_to_the_fallback(bench: Bench) -> None:
    silent = workflow(
        "silent", route(named("x"), named("y"), rules=[rule("r", go="x", keywords=("x",))], fallback="y")
    )
    path, node = find_router(compile_workflow(silent), None)
    told = evaluate_route(runner(bench), output(bench), mails(x="x", z="y"), silent, path, node)
    assert [(one.choice, one.by, one.reason) for one in told.results] == [
        ("x", "rule", "rule 'r' holds"),
        ("y", "fallback", "no rule holds"),
    ]
    assert runs(bench) == 0


@pytest.mark.parametrize("step", ["0", "1/billing", "7", ""])
def test_a_step_that_is_no_router_is_refused(step: str) -> None:
    with pytest.raises(NotFound, match="is no router; there are routers at 1"):
        find_router(compile_workflow(DESK), step)


def test_a_workflow_without_a_router_is_refused() -> None:
    with pytest.raises(NotFound, match="'shout' has no router"):
        find_router(compile_workflow(SHOUT), None)


def test_the_first_router_is_found_inside_other_patterns() -> None:
    from examples.support_triage import triage

    path, node = find_router(compile_workflow(triage), None)
    assert (path, type(node)) == ("0/*/0", Route)
    assert find_router(compile_workflow(triage), "0/17/0") == (path, node)
