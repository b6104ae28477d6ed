"""Conditions are refused when they are written, and tell what is missing when they cannot be evaluated."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.definitions.conditions import ConditionError, fault, holds, number
from orchestrator.definitions.vocabulary import loop, pipeline, route, rule, workflow
from schemas.errors import DefinitionError
from tests.integration.engine.bench import named

A, B = named("a"), named("b")
TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("input.total > 10", None),
        ("input.items.exists(i, i.price > 3) && size(input.name) < 5", None),
        ("input.total >", "is no condition"),
        ("output.total > 1", "uses output; it may use input"),
        ("import os", "is no condition"),
    ],
)
def test_a_condition_is_checked_when_it_is_written(text: str, told: str | None) -> None:
    found = fault(text, ("input",))

    assert (found is None) if told is None else (found is not None and told in found)


@pytest.mark.parametrize(
    ("text", "value", "answer"),
    [
        ("input.total >= 10.5", {"total": 11}, True),
        ("'vip' in input.tags", {"tags": []}, False),
        ("has(input.total) && input.total > 1", {}, False),
    ],
)
def test_a_condition_holds_or_not(text: str, value: Any, answer: bool) -> None:
    assert holds(text, {"input": value}) is answer


@pytest.mark.parametrize("text", ["input.a", "input.missing > 1", "1 / 0 > 1", "input.a > 'x'"])
def test_what_cannot_be_told_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(ConditionError, match="condition"):
        holds(text, {"input": {"a": 1}})


def test_a_score_is_a_number() -> None:
    assert number("double(input.a) * 2.0", {"input": {"a": 2}}) == 4.0
    with pytest.raises(ConditionError, match="instead of a number"):
        number("input.a > 1", {"input": {"a": 2}})


def test_all_faults_of_the_patterns_are_named_at_once() -> None:
    broken = route(
        A,
        rules=[rule("r", go="nowhere", when="input.x"), rule("empty", go="a")],
        fallback="missing",
    )
    with pytest.raises(DefinitionError) as refused:
        workflow("w", broken)
    text = str(refused.value)
    assert "'nowhere'" in text
    assert "'missing'" in text
    assert "either a condition or keywords" in text

    with pytest.raises(DefinitionError) as refused:
        workflow("w", pipeline(A.when("output > 1"), loop(B, until="x"), stop_when="input"))
    assert str(refused.value).count("may use") == 3


def test_the_output_of_a_round_must_fit_the_next_one() -> None:
    growing = named("growing", takes={"type": "integer"}, gives=TEXT)
    with pytest.raises(DefinitionError, match="in the second round"):
        workflow("w", loop(growing))


def test_what_a_stage_passes_on_must_fit_what_follows() -> None:
    reader, writer = (
        named("reader", takes=TEXT, gives={"type": "integer"}),
        named("writer", takes={"type": "integer"}),
    )
    with pytest.raises(DefinitionError, match="writer"):
        workflow("w", reader.when("size(input) > 3") >> writer)


def test_an_agent_that_is_asked_must_return_a_choice() -> None:
    with pytest.raises(DefinitionError, match="must return a Choice"):
        workflow("w", route(A, B, by=named("asked", gives=TEXT), fallback="a"))
