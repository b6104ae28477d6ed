"""Cuts the conversation with a model until it fits, before each call."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from workers.cuts.fitting import Cut, cut_of, too_much
from workers.cuts.told import shortened, tokens_of
from workers.models.brain import Brain
from workers.models.untrusted import inside

LEAST = 50
"""Tokens that are left of what is cut in a conversation."""


class Conversed:
    """Cuts one conversation before each request; what was cut once is told once."""

    def __init__(self, brain: Brain) -> None:
        self._brain = brain
        self._told: dict[tuple[int, int], int] = {}
        """What was left of a part."""

    def fitted(self, messages: Sequence[ModelMessage]) -> tuple[list[ModelMessage], list[Cut]]:
        """The messages as they may be told. Raises `Permanent` if they do not fit after all that may be cut."""
        budget, cut = self._brain.context, list(messages)
        if budget is None:
            return cut, []
        total = tokens_of(self._brain.instructions) + sum(
            _tokens(part) for message in messages for part in message.parts
        )
        excess, cuts = total - budget.tokens, list[Cut]()
        for place in _places(messages):
            if excess <= 0:
                return cut, cuts
            part, before = _at(cut, place), _tokens(_at(cut, place))
            after = max(LEAST, before - excess)
            if after >= before:
                continue
            excess -= before - after
            cut[place[0]] = _with(cut[place[0]], place[1], _beginning(_text(part), after))
            if self._told.get(place) != after:
                self._told[place] = after
                cuts.append(cut_of(_name(part), "truncated", before, after))
        if excess > 0:
            raise too_much(self._brain.agent, budget.tokens + excess, budget)
        return cut, cuts


def _places(messages: Sequence[ModelMessage]) -> Iterator[tuple[int, int]]:
    """The parts that may be cut, in that order: results of tools, the session, what the model said beside its calls."""
    parts = [
        ((index, number), part)
        for index, message in enumerate(messages)
        for number, part in enumerate(message.parts)
    ]
    asked = max((place for place, part in parts if isinstance(part, UserPromptPart)), default=(0, 0))
    yield from (place for place, part in parts if isinstance(part, ToolReturnPart))
    yield from (place for place, part in parts if isinstance(part, UserPromptPart) and place < asked)
    yield from (place for place, part in parts if isinstance(part, TextPart | ThinkingPart))


def _at(messages: Sequence[ModelMessage], place: tuple[int, int]) -> Any:
    return messages[place[0]].parts[place[1]]


def _with(message: Any, number: int, text: str) -> ModelMessage:
    parts = list(message.parts)
    parts[number] = replace(parts[number], content=text)
    changed: ModelMessage = replace(message, parts=parts)
    return changed


def _beginning(text: str, tokens: int) -> str:
    """What tools give stays between its marks."""
    before, said, after = inside(text)
    return f"{before}{shortened(said, tokens - tokens_of(before + after))}{after}"


def _text(part: Any) -> str:
    match part:
        case ToolReturnPart():
            return part.model_response_str()
        case ToolCallPart():
            return part.args_as_json_str()
    content = getattr(part, "content", "")
    return content if isinstance(content, str) else json.dumps(content, default=str, ensure_ascii=False)


def _tokens(part: Any) -> int:
    return tokens_of(_text(part))


def _name(part: Any) -> str:
    match part:
        case ToolReturnPart(tool_name=name):
            return f"tool {name}"
        case UserPromptPart():
            return "session"
    return "said"
