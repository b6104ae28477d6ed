"""Stages with conditions and fallbacks, routers, loops: what each does with what fails, and what it tells."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.definitions.vocabulary import (
    Composable,
    each,
    fan_out,
    loop,
    pipeline,
    route,
    rule,
    workflow,
)
from orchestrator.engine import Claimed
from schemas.events import EventKind
from tests.integration.engine.bench import Bench, Boom, named

A, B, C = (named(name) for name in "abc")
ASKED = named("asked", gives={"type": "object", "properties": {"choice": {"type": "string"}}})


def acting(**answers: Any) -> Any:
    """Each agent gives its answer, a `Boom` is raised; the others return their own name."""

    def act(agent: str, value: Any, claimed: Claimed) -> Any:
        answer = answers.get(agent, agent)
        if callable(answer):
            answer = answer(value)
        if isinstance(answer, Boom):
            raise answer
        return answer

    return act


def ended(bench: Bench, body: Composable, value: Any = None, **answers: Any) -> Any:
    run = bench.submit(workflow("w", body), value)
    bench.drain(acting(**answers))
    return bench.end(run)


# --- stages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "output"), [(5, {"amount": 5}), (50, "a")])
def test_a_stage_whose_condition_does_not_hold_passes_its_input_on(
    bench: Bench, amount: int, output: Any
) -> None:
    end = ended(bench, A.when("input.amount > 10"), {"amount": amount})

    assert (end.state, end.output) == ("completed", output)


def test_an_optional_stage_that_fails_passes_its_input_on_and_degrades_the_run(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B.optional() >> C))

    bench.drain(acting(b=Boom("no"), c=lambda value: [value]))

    assert bench.end(run).output == ["a"]
    assert bench.view(run).degraded


def test_a_fallback_takes_the_input_of_what_failed(bench: Bench) -> None:
    end = ended(bench, A >> B.otherwise(C), b=Boom("no"), c=lambda value: [value])

    assert end.output == ["a"]


def test_a_fallback_that_fails_fails_the_stage_and_is_what_a_resumed_run_does_again(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B.otherwise(C)))
    bench.drain(acting(b=Boom("no"), c=Boom("neither")))
    assert bench.end(run).error is not None

    bench.messages += bench.engine.resume(run)
    bench.drain(acting())

    assert bench.end(run).output == "c"
    assert bench.executed[run, "1/do"] == 1


def test_a_pipeline_ends_early_when_it_may(bench: Bench) -> None:
    body = pipeline(A, B, C, stop_when="output == 'b'")

    assert ended(bench, body).output == "b"
    assert ended(bench, body, b="x").output == "c"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (A.when("input.missing > 1"), "needs 'missing', which is not there"),
        (A.when("input.amount"), "instead of true or false"),
        (pipeline(A, B, stop_when="output.x == 1"), "could not be evaluated"),
        (loop(A, until="output.x == 1"), "could not be evaluated"),
    ],
)
def test_a_condition_that_cannot_be_told_fails_the_step_and_nobody_else(
    bench: Bench, body: Composable, reason: str
) -> None:
    beside = bench.submit(workflow("beside", A >> B))
    run = bench.submit(workflow("w", fan_out(odd=body, sound=C, require=1)), {"amount": 5})

    bench.drain(acting())

    assert bench.end(beside).state == "completed"
    assert bench.end(run).output["sound"] == "c"
    (gap,) = bench.end(run).output["gaps"]
    assert reason in gap["reason"]


@pytest.mark.parametrize(
    "body",
    [
        pipeline(A, B, stop_when="output.x == 1"),
        A >> loop(B, until="output.x == 1"),
        A >> route(B, rules=[rule("r", go="b", keywords=("x",))], fallback="b") >> C.when("input.x == 1"),
    ],
)
def test_what_failed_by_a_condition_fails_again_when_its_run_is_resumed(
    bench: Bench, body: Composable
) -> None:
    run = bench.submit(workflow("w", body))
    bench.drain(acting())
    first = bench.end(run).error
    assert first is not None

    bench.messages += bench.engine.resume(run)
    bench.drain(acting())

    assert bench.end(run).error == first
    assert set(bench.executed.values()) == {1}


@pytest.mark.parametrize(
    ("output", "kind"), [(7, "number"), ("abc", "string"), (True, "boolean"), ({"x": [1]}, "object")]
)
def test_an_each_over_a_branch_that_gave_no_list_fails_and_nobody_else(
    bench: Bench, output: Any, kind: str
) -> None:
    beside = bench.submit(workflow("beside", A >> B))
    run = bench.submit(workflow("w", fan_out(A, B) >> each(C, items="a")))

    bench.drain(acting(a=output))

    assert bench.end(beside).state == "completed"
    error = bench.end(run).error
    assert error is not None
    assert error.message == f"each needs a list, but its field 'a' is {kind}"


# --- routers ----------------------------------------------------------------------------------------------


def decision(bench: Bench, body: Composable, value: Any, **answers: Any) -> dict[str, Any]:
    run = bench.submit(workflow("w", body), value)
    bench.drain(acting(**answers))
    (told,) = [event.data for event in bench.events(run) if event.kind is EventKind.STEP_DECIDED]
    assert bench.end(run).output == told["choice"]
    return told


def desk(**fields: Any) -> Composable:
    rules = [
        rule("large", go="b", when="input.amount > 100"),
        rule("money", go="a", keywords=("refund", "invoice"), field="text"),
    ]
    return route(A, B, C, rules=rules, **{"fallback": "c", **fields})


def test_the_first_rule_that_holds_decides(bench: Bench) -> None:
    told = decision(bench, desk(), {"amount": 500, "text": "A refund!"})

    assert told["choice"] == "b"
    assert (told["by"], told["rule"]) == ("rule", "large")
    assert told["features"] == {"large": True}


def test_words_are_found_whole_and_in_their_field(bench: Bench) -> None:
    told = decision(bench, desk(), {"amount": 5, "text": "Where is my REFUND?", "note": "invoice"})
    assert (told["choice"], told["features"]) == ("a", {"large": False, "money": ["refund"]})

    told = decision(bench, desk(), {"amount": 5, "text": "refunded", "note": "invoice"})
    assert (told["choice"], told["by"]) == ("c", "fallback")


def test_a_rule_that_cannot_be_told_does_not_hold_and_says_why(bench: Bench) -> None:
    told = decision(bench, desk(), {"text": "invoice"})

    assert told["choice"] == "a"
    assert "amount" in told["features"]["large"]


def test_an_agent_is_asked_only_where_no_rule_holds(bench: Bench) -> None:
    answer = {"choice": "b", "confidence": 0.9, "reason": "looks large", "features": {"size": 3}}

    told = decision(bench, desk(by=ASKED), {"amount": 5, "text": ""}, asked=answer)
    assert (told["by"], told["choice"], told["confidence"]) == ("agent", "b", 0.9)
    assert (told["reason"], told["features"]) == ("looks large", {"size": 3})

    run = bench.submit(workflow("w", desk(by=ASKED)), {"amount": 500, "text": ""})
    bench.drain(acting())
    assert "0/by" not in bench.states(run)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"choice": "b", "confidence": 0.4}, "less than 0.5"),
        ({"choice": "x", "confidence": 0.9}, "which is no way"),
        ({"choices": 1}, "gave no choice"),
        ("b", "gave no choice"),
        (Boom("out of order"), "asked failed: out of order"),
    ],
)
def test_whatever_nobody_decided_goes_to_the_fallback(bench: Bench, answer: Any, reason: str) -> None:
    told = decision(bench, desk(by=ASKED, threshold=0.5), {"amount": 5, "text": ""}, asked=answer)

    assert (told["choice"], told["by"]) == ("c", "fallback")
    assert reason in told["reason"]


def test_a_chosen_way_that_failed_is_what_a_resumed_run_does_again(bench: Bench) -> None:
    body = desk(by=ASKED, threshold=0.5)
    run = bench.submit(workflow("w", body), {"amount": 5, "text": ""})
    bench.drain(acting(asked=Boom("no"), c=Boom("nor this")))

    bench.messages += bench.engine.resume(run)
    bench.drain(acting())

    assert bench.end(run).output == "c"
    assert bench.executed[run, "0/by"] == 1


# --- loops ------------------------------------------------------------------------------------------------


def test_a_loop_ends_when_its_condition_holds(bench: Bench) -> None:
    end = ended(bench, loop(A, until="output >= 3 && round == 3"), 0, a=lambda value: value + 1)

    assert end.output == 3


def test_a_loop_ends_when_nothing_changes(bench: Bench) -> None:
    assert ended(bench, loop(A), 0, a=lambda value: min(value + 1, 4)).output == 4


def test_a_loop_that_hits_its_bound_gives_the_best_and_says_so(bench: Bench) -> None:
    qualities = [3, 9, 5, 1]
    body = loop(A, score="double(output.quality)", max_rounds=4)
    run = bench.submit(workflow("w", body), {"round": -1})

    bench.drain(
        acting(a=lambda value: {"round": value["round"] + 1, "quality": qualities[value["round"] + 1]})
    )

    assert bench.end(run).output == {"round": 1, "quality": 9}
    (warning,) = [event.data for event in bench.events(run) if event.kind is EventKind.STEP_WARNING]
    assert warning["rounds"] == 4


def test_a_long_loop_warns_after_ten_rounds(bench: Bench) -> None:
    run = bench.submit(workflow("w", loop(A, until="output == 12")), 0)

    bench.drain(acting(a=lambda value: value + 1))

    assert bench.end(run).output == 12
    (warning,) = [event.data for event in bench.events(run) if event.kind is EventKind.STEP_WARNING]
    assert (warning["rounds"], warning["most"]) == (10, 15)


def test_a_loop_with_a_result_outlives_a_failed_round(bench: Bench) -> None:
    run = bench.submit(workflow("w", loop(A, max_rounds=5)), 0)

    bench.drain(acting(a=lambda value: value + 1 if value < 2 else Boom("enough")))

    assert bench.end(run).output == 2
    assert bench.view(run).degraded


def test_a_loop_whose_first_round_fails_fails(bench: Bench) -> None:
    end = ended(bench, loop(A), 0, a=Boom("at once"))

    assert (end.state, end.error.message) == ("failed", "at once")


def test_all_of_them_nest(bench: Bench) -> None:
    inner = route(A, B, rules=[rule("even", go="a", when="input % 2 == 0")], fallback="b")
    body = each(loop(inner.otherwise(C), until="output > 8", max_rounds=20))

    end = ended(bench, body, [1, 2, 3], a=lambda value: value + 1, b=lambda value: value * 2)

    assert [value > 8 for value in end.output["results"]] == [True, True, True]
