"""Debates: who wins and how sure that is, what becomes of debaters and judges that fail, and that none sees another."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.definitions.teams import debate
from orchestrator.definitions.vocabulary import Composable, fan_out, workflow
from orchestrator.engine import Claimed, Pointer
from orchestrator.identify import new_id
from schemas import Bounds, Budget, Case, Debated, Usage, Verdict
from schemas.errors import DefinitionError
from schemas.events import EventKind
from schemas.outcomes import Done
from tests.integration.engine.bench import Bench, Boom, done, named

OPINION = {
    "type": "object",
    "properties": {"risk": {"type": "string"}, "why": {"type": "string"}},
    "required": ["risk", "why"],
}
A, B, C = (named(name, gives=OPINION) for name in "abc")
JUDGE = named("judge", takes=Case.model_json_schema(), gives=Verdict.model_json_schema())
RUBRIC = {"evidence": 3.0, "clarity": 1.0}


def says(risk: str, why: str = "") -> dict[str, str]:
    return {"risk": risk, "why": why}


def scores(**given: tuple[float, float]) -> dict[str, Any]:
    return {"scores": {name: {"evidence": e, "clarity": c} for name, (e, c) in given.items()}}


def acting(**answers: Any) -> Any:
    """Each agent gives its answer, a `Boom` is raised."""

    def act(agent: str, value: Any, claimed: Claimed) -> Any:
        answer = answers[agent]
        answer = answer(value) if callable(answer) else answer
        if isinstance(answer, Boom):
            raise answer
        return answer

    return act


def held(bench: Bench, body: Composable, **answers: Any) -> Any:
    """The output of a run of this debate, which fits its model, or the message of its failure."""
    run = bench.submit(workflow("w", body), "the question")
    bench.drain(acting(**answers))
    end = bench.end(run)
    if end.error is not None:
        return end.error.message
    Debated.model_validate(end.output)
    return end.output


# --- the judge --------------------------------------------------------------------------------------------


def test_the_engine_weighs_the_scores_of_the_judge(bench: Bench) -> None:
    # c is best on average, a is best by the weights
    answer = scores(a=(0.8, 0.2), b=(0.1, 1.0), c=(0.6, 0.6)) | {
        "confidence": 0.9,
        "reason": "cites the text",
    }

    end = held(
        bench,
        debate(A, B, C, judge=JUDGE, rubric=RUBRIC),
        a=says("high"),
        b=says("low"),
        c=says("low"),
        judge=answer,
    )

    assert (end["winner"], end["answer"], end["by"]) == ("a", says("high"), "judge")
    assert end["scores"] == {"a": 0.65, "b": 0.325, "c": 0.6}
    assert (end["confidence"], end["reason"]) == (0.9, "cites the text")
    assert end["dissent"] == [
        {"debater": "b", "answer": says("low")},
        {"debater": "c", "answer": says("low")},
    ]


def test_the_judge_is_handed_the_question_the_answers_and_the_rubric(bench: Bench) -> None:
    seen = {}

    def judge(value: Any) -> Any:
        seen.update(value)
        return scores(a=(1, 1), b=(0, 0))

    held(
        bench,
        debate(A, B, C, judge=JUDGE, rubric=RUBRIC),
        a=says("x"),
        b=says("y"),
        c=Boom("ill"),
        judge=judge,
    )

    assert seen["task"] == "the question"
    assert seen["positions"] == {"a": says("x"), "b": says("y")}
    assert seen["rubric"] == RUBRIC
    assert [gap["branch"] for gap in seen["gaps"]] == ["c"]


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Boom("out of order"), "judge failed: out of order"),
        (scores(a=(1, 1)), "no score for evidence, clarity"),
        ({"scores": {"a": {"evidence": 7}}}, "gave no verdict"),
        ("a", "gave no verdict"),
    ],
)
def test_without_a_verdict_most_debaters_decide_unless_that_is_refused(
    bench: Bench, verdict: Any, reason: str
) -> None:
    answers = {"a": says("low"), "b": says("high"), "c": says("high"), "judge": verdict}

    end = held(bench, debate(A, B, C, judge=JUDGE, rubric=RUBRIC, fields=["risk"]), **answers)
    assert (end["winner"], end["by"], end["confidence"]) == ("b", "plurality", 0.666667)
    assert reason in end["reason"]

    told = held(bench, debate(A, B, C, judge=JUDGE, rubric=RUBRIC, undecided="fail"), **answers)
    assert reason in told


def test_of_equal_scores_the_answer_wins_that_more_share(bench: Bench) -> None:
    answer = scores(a=(1, 1), b=(1, 1), c=(0, 0))

    end = held(
        bench,
        debate(A, B, C, judge=JUDGE, rubric=RUBRIC, fields=["risk"]),
        a=says("low"),
        b=says("high"),
        c=says("high"),
        judge=answer,
    )

    assert (end["winner"], end["supporters"]) == ("b", ["b", "c"])


# --- votes ------------------------------------------------------------------------------------------------


def test_a_majority_agrees_on_the_chosen_fields(bench: Bench) -> None:
    body = debate(A, B, C, mode="majority", fields=["risk"])

    end = held(bench, body, a=says("low", "x"), b=says("high", "y"), c=says("high", "z"))

    assert (end["winner"], end["by"], end["supporters"]) == ("b", "majority", ["b", "c"])
    assert (end["agreement"], end["confidence"]) == (0.666667, 0.666667)
    assert end["dissent"] == [{"debater": "a", "answer": says("low", "x")}]


def test_without_chosen_fields_whole_answers_are_compared(bench: Bench) -> None:
    end = held(bench, debate(A, B, C), a=says("high", "x"), b=says("high", "y"), c=says("high", "y"))

    assert (end["winner"], end["supporters"]) == ("b", ["b", "c"])


@pytest.mark.parametrize(
    ("terms", "risks", "by"),
    [
        ({"mode": "unanimous"}, "xxx", "unanimous"),
        ({"mode": "unanimous"}, "xxy", "plurality"),
        ({"mode": "unanimous"}, "xx-", "plurality"),
        ({"quorum": 2}, "xxy", "quorum"),
        ({"quorum": 2}, "xx-", "quorum"),
        ({"quorum": 3}, "xxy", "plurality"),
        ({"mode": "majority"}, "xyz", "plurality"),
        ({"mode": "majority"}, "x--", "plurality"),
    ],
)
def test_how_many_must_agree(bench: Bench, terms: dict[str, Any], risks: str, by: str) -> None:
    answers = {n: says(r) if r != "-" else Boom("ill") for n, r in zip("abc", risks, strict=True)}

    end = held(bench, debate(A, B, C, **terms), **answers)

    assert end["by"] == by
    assert end["answer"] == says("x")


def test_a_judge_is_asked_only_where_they_do_not_agree(bench: Bench) -> None:
    body = debate(A, B, C, mode="majority", judge=JUDGE, rubric=RUBRIC)
    asked = []

    def judge(value: Any) -> Any:
        asked.append(value)
        return scores(a=(0, 0), b=(0, 0), c=(1, 1))

    end = held(bench, body, a=says("x"), b=says("x"), c=says("y"), judge=judge)
    assert (end["by"], asked) == ("majority", [])

    end = held(bench, body, a=says("x"), b=says("y"), c=says("z"), judge=judge)
    assert (end["by"], end["winner"], len(asked)) == ("judge", "c", 1)


def test_no_agreement_fails_the_debate_where_that_is_wanted(bench: Bench) -> None:
    told = held(bench, debate(A, B, C, undecided="fail"), a=says("x"), b=says("y"), c=says("z"))

    assert told == "1 of 3 agree, 2 must"


# --- what becomes of a debater ----------------------------------------------------------------------------


def test_a_failed_debater_lowers_the_confidence_and_is_named(bench: Bench) -> None:
    body = debate(A, B, C, judge=JUDGE, rubric=RUBRIC)

    end = held(bench, body, a=says("x"), b=says("y"), c=Boom("ill"), judge=scores(a=(1, 1), b=(0, 0)))

    assert end["confidence"] == 0.666667
    assert end["gaps"] == [{"branch": "c", "state": "failed", "reason": "ill"}]


def test_too_few_answers_fail_the_debate_only_as_required(bench: Bench) -> None:
    answers = {"a": says("x"), "b": Boom("ill"), "c": Boom("ill")}

    assert held(bench, debate(A, B, C), **answers)["winner"] == "a"
    assert "1 of 3 branches succeeded, 2 are required" in held(bench, debate(A, B, C, require=2), **answers)
    everyone = dict.fromkeys("abc", Boom("ill"))
    assert "0 of 3 branches succeeded, 1 are required" in held(bench, debate(A, B, C), **everyone)


def test_a_late_debater_is_a_gap(bench: Bench) -> None:
    run = bench.submit(workflow("w", debate(A, B, C, within=3600)))
    bench.finish(bench.claim(run, "0/positions/a"), says("x"))
    bench.finish(bench.claim(run, "0/positions/b"), says("x"))
    late = bench.claim(run, "0/positions/c")

    bench.query("UPDATE steps SET due_at = now() WHERE run_id = %s AND due_at IS NOT NULL", run)
    bench.fire()

    end = bench.end(run)
    assert (end.output["by"], end.output["gaps"][0]["state"]) == ("majority", "late")
    assert end.output["gaps"][0]["reason"] == "the debate took longer than 3600 s"
    assert not bench.finish(late, says("y")).accepted
    assert bench.view(run).degraded


@pytest.mark.parametrize(
    ("budget", "bounds"),
    [(Budget(tokens=100), None), (Budget(tokens=100), Bounds(tokens=5)), (Budget(seconds=1e-6), None)],
)
def test_a_judge_that_costs_nothing_decides_although_the_budget_is_used_up(
    bench: Bench, budget: Budget, bounds: Bounds | None
) -> None:
    judge = named("judge", takes=Case.model_json_schema(), gives=Verdict.model_json_schema(), bounds=bounds)
    body = debate(A, B, judge=judge, rubric=RUBRIC)
    run = bench.submit(workflow("w", body, budget=budget))
    answers = [bench.claim(run, f"0/positions/{name}") for name in "ab"]
    bench.messages = []
    for claimed, risk in zip(answers, "xy", strict=True):
        spent = Done(usage=Usage(tokens=100))
        bench._record(bench.engine, replace(done(claimed, says(risk)), outcome=spent))
    bench.drain(acting(judge=scores(a=(0, 0), b=(1, 1))))

    end = bench.end(run).output
    if bounds is None:
        assert (end["winner"], end["by"]) == ("b", "judge")
    else:
        assert (end["winner"], end["by"], end["confidence"]) == ("a", "plurality", 0.5)
        assert f"judge failed: the budget of run {run} is used up" in end["reason"]
    assert bench.view(run).degraded == (bounds is not None)


def test_none_sees_what_another_says(bench: Bench) -> None:
    # Given debaters whose answers would be known if they came to be seen
    seen: dict[str, Claimed] = {}

    def act(agent: str, value: Any, claimed: Claimed) -> Any:
        seen[agent] = claimed
        return says("x", f"secret of {agent}")

    run = bench.submit(workflow("w", debate(A, B, C, parallel=1)), {"question": 1})
    bench.drain(act)

    # Then each had nothing but the question, although the others had answered before
    assert bench.end(run).output["winner"] == "a"
    for claimed in seen.values():
        assert json.loads(claimed.input) == json.loads(claimed.intent) == {"question": 1}
        assert "secret" not in repr(claimed)


@pytest.mark.parametrize("step", ["0/positions/b", "0/judge"])
def test_whose_worker_dies_is_done_by_another_one(bench: Bench, step: str) -> None:
    body = debate(A, B, judge=JUDGE, rubric=RUBRIC)
    run = bench.submit(workflow("w", body))
    others = acting(a=says("x"), b=says("y"), judge=scores(a=(1, 1), b=(0, 0)))
    while step not in bench.states(run):
        bench.drain(others, rounds=1)
    message = next(one for one in bench.messages if one.path == step)

    bench.claim(run, step)
    bench.engine.release(Pointer(run, step), lost=True)
    bench.messages.append(message)
    bench.drain(others)

    assert bench.end(run).output["winner"] == "a"
    assert set(bench.executed.values()) == {1}


def test_a_cancelled_debate_asks_nobody_any_more(bench: Bench) -> None:
    run = bench.submit(workflow("w", debate(A, B, judge=JUDGE, rubric=RUBRIC)))
    held_back = bench.claim(run, "0/positions/a")

    bench.engine.cancel(run)
    bench.drain(acting())

    assert not bench.finish(held_back, says("x")).accepted
    assert set(bench.states(run).values()) == {"cancelled"}


def test_a_debate_pauses_and_goes_on(bench: Bench) -> None:
    run = bench.submit(workflow("w", debate(A, B)))
    held_back = bench.claim(run, "0/positions/a")
    bench.engine.pause(run)
    bench.finish(held_back, says("x"))
    bench.messages.clear()

    bench.messages += bench.engine.resume(run)
    bench.drain(acting(b=says("x")))

    assert bench.end(run).output["agreement"] == 1.0


# --- runs -------------------------------------------------------------------------------------------------


def test_a_resumed_debate_asks_only_whoever_failed(bench: Bench) -> None:
    run = bench.submit(workflow("w", debate(A, B, C, require="all")))
    bench.drain(acting(a=says("x"), b=Boom("ill"), c=says("x")))
    assert bench.end(run).state == "failed"

    bench.messages += bench.engine.resume(run)
    bench.drain(acting(b=says("x")))

    assert bench.end(run).output["agreement"] == 1.0
    assert bench.executed[run, "0/positions/a"] == bench.executed[run, "0/positions/c"] == 1


def test_a_debate_that_stayed_undecided_fails_again_when_it_is_resumed(bench: Bench) -> None:
    run = bench.submit(workflow("w", debate(A, B, undecided="fail")))
    bench.drain(acting(a=says("x"), b=says("y")))

    bench.messages += bench.engine.resume(run)
    bench.drain(acting())

    assert bench.end(run).state == "failed"


def test_a_judge_that_failed_is_asked_again_by_a_resumed_run(bench: Bench) -> None:
    body = debate(A, B, judge=JUDGE, rubric=RUBRIC, undecided="fail")
    run = bench.submit(workflow("w", body))
    bench.drain(acting(a=says("x"), b=says("y"), judge=Boom("asleep")))

    bench.messages += bench.engine.resume(run)
    bench.drain(acting(judge=scores(a=(0, 0), b=(1, 1))))

    assert bench.end(run).output["winner"] == "b"


def test_a_fork_hears_one_debater_again_and_decides_again(bench: Bench) -> None:
    run = bench.submit(workflow("w", debate(A, B, C, fields=["risk"])))
    bench.drain(acting(a=says("x"), b=says("y"), c=says("x")))

    fork = new_id()
    bench.messages += bench.engine.fork(run, "0/positions/a", fork)
    bench.drain(acting(a=says("y")))

    assert bench.end(run).output["winner"] == "a"
    assert (bench.end(fork).output["winner"], bench.end(fork).output["supporters"]) == ("a", ["a", "b"])


def test_the_decision_is_told(bench: Bench) -> None:
    run = bench.submit(workflow("w", debate(A, B, C, fields=["risk"])))
    bench.drain(acting(a=says("x"), b=says("y"), c=says("y")))

    (told,) = [event.data for event in bench.events(run) if event.kind is EventKind.STEP_DECIDED]
    assert (told["verb"], told["choice"], told["by"]) == ("settled on", "b", "majority")
    assert told["alternatives"] == {"a": 0.333333}


def test_an_answer_that_cannot_be_read_fails_its_debate_and_nobody_else(bench: Bench) -> None:
    # Given a number that Postgres keeps and Python does not read
    beside = bench.submit(workflow("beside", A >> named("d")))
    run = bench.submit(
        workflow("w", fan_out(odd=debate(named("e"), named("f")), sound=named("d"), require=1))
    )

    def act(agent: str, value: Any, claimed: Claimed) -> Any:
        return agent

    bench.messages = [m for m in bench.messages if m.agent not in ("e", "f")]
    for path in ("0/odd/positions/e", "0/odd/positions/f"):
        claimed = bench.claim(run, path)
        bench._record(bench.engine, replace(done(claimed), output="1e5000"))
    bench.drain(act)

    assert bench.end(beside).state == "completed"
    assert "cannot be read" in bench.end(run).output["gaps"][0]["reason"]


# --- definitions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: debate(A, named("d", gives={"type": "string"})), "all debaters produce the same schema"),
        (lambda: debate(A, B, mode="judge"), "it has no judge"),
        (lambda: debate(A, B, judge=JUDGE), "needs a rubric"),
        (lambda: debate(A, B, rubric=RUBRIC), "a rubric, but no judge"),
        (lambda: debate(A, B, quorum=3), "only 2 debaters"),
        (lambda: debate(A, B, mode="quorum"), "quorum= belongs to"),
        (lambda: debate(A, B, fields=["cost"]), "no field 'cost'"),
        (lambda: debate(A, B, require=3), "only 2 branches"),
        (lambda: debate(A, B, judge=named("j"), rubric=RUBRIC), "it must take a Case"),
        (
            lambda: debate(A, B, judge=named("j", takes=Case.model_json_schema()), rubric=RUBRIC),
            "must return Verdict",
        ),
        (lambda: debate(A), "at least 2"),
        (lambda: debate(A, B, judge=JUDGE, rubric={"x": -1.0}), "greater than 0"),
        (lambda: debate(A, B) >> named("d", takes={"type": "string"}), "is Debated, but string"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, fault: str) -> None:
    with pytest.raises(DefinitionError, match=fault):
        workflow("w", make())


def test_the_json_form_is_the_same_debate() -> None:
    made = workflow("w", debate(A, B, judge=JUDGE, rubric=RUBRIC, fields=["risk"], require=2, within=5))

    assert type(made).model_validate_json(made.model_dump_json()) == made
