"""What is given to a model agent where something else is wanted is told when it is declared, in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from schemas import Breaker
from schemas.errors import DefinitionError
from workers import ContextBudget, llm_agent
from workers.models.shapes import SETTINGS


class Answer(BaseModel):
    text: str
    sure: float


def search(query: str) -> str:
    return query


def declared(**options: Any) -> None:
    given: dict[str, Any] = {
        "model": "openai:gpt-5",
        "input": str,
        "output": Answer,
        "instructions": "Answer.",
    }
    llm_agent("clerk", **(given | options))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tools": search}, "tools: write a list: [search]"),
        ({"tools": "search"}, "tools: write a list: [search]"),
        ({"tools": [3]}, "3 is no tool"),
        ({"model": 3}, "a model is PROVIDER:NAME or Model(...), not 3"),
        ({"model": None, "models": "openai:gpt-5"}, "models: write a list"),
        ({"fallbacks": "openai:gpt-5"}, "fallbacks: write a list"),
        ({"input": {"text": str}}, "input: it is a type, such as a BaseModel"),
        ({"instructions": None}, "instructions: it is a text, not None"),
        ({"call_timeout": "5"}, "call_timeout: it is a number, not '5'"),
        ({"max_calls": True}, "max_calls: it is a number, not True"),
        ({"settings": "hot"}, "settings: they are a mapping"),
        ({"settings": {"temprature": 0.2}}, "no setting 'temprature'; did you mean temperature?"),
        ({"settings": {"max_retries": 3}}, "what is asked again passes limits and budgets again"),
        ({"settings": {"max_tokens": -1}}, "settings/max_tokens: it is a whole number above 0, not -1"),
        ({"settings": {"max_tokens": "9"}}, "settings/max_tokens: it is a whole number above 0, not '9'"),
        ({"context": ContextBudget(9, ["input"])}, "it is Drop, Truncate or Summarise"),  # type: ignore[list-item]
        ({"context": ContextBudget("9")}, "context/tokens: it is a whole number"),  # type: ignore[arg-type]
        (
            {"fallback": {}, "breaker": Breaker()},
            "does not fit the agent's output: text: Field required; sure",
        ),
    ],
)
def test_what_has_another_form_is_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        declared(**options)

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("confidence", "told"),
    [
        ("output.shure", "the output has no field 'shure'; it has: text, sure"),
        ("has(output.sure) ? output.sure : input.size", None),  # a text has no fields to know
        ("output.text.startsWith('a') ? 1.0 : output.sure", None),
    ],
)
def test_a_confidence_that_could_never_be_told_is_refused(confidence: str, told: str | None) -> None:
    if told is None:
        declared(model=None, models=["openai:gpt-5-nano", "openai:gpt-5"], confidence=confidence)
        return
    with pytest.raises(DefinitionError) as caught:
        declared(model=None, models=["openai:gpt-5-nano", "openai:gpt-5"], confidence=confidence)

    assert told in str(caught.value)


def test_settings_of_one_provider_are_taken_as_they_are() -> None:
    declared(settings={"openai_reasoning_effort": "low", "max_tokens": 200, "temperature": 0})


def test_the_settings_are_those_that_pydantic_ai_knows() -> None:
    from pydantic_ai.settings import ModelSettings

    assert set(ModelSettings.__annotations__) - {"max_retries"} == SETTINGS
