"""Cuts what a model is told until it fits: its input before the first call, its conversation before each."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic_ai.messages import (
    ModelMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from schemas.errors import Permanent
from workers.agent import Agent
from workers.context import Context
from workers.models.brain import Brain
from workers.models.cuts import ContextBudget, Drop, Policy, Summarise, Told, shortened, tokens_of
from workers.models.untrusted import inside

LEAST = 50
"""Tokens that are left of what is cut in a conversation."""

Cut = dict[str, Any]
"""What an event tells of one cut: a `message`, `field`, `how`, and the tokens `before` and `after`."""


class Fitted(NamedTuple):
    """What is left, and what was cut."""

    told: Told
    cuts: list[Cut]


async def fitted(brain: Brain, ctx: Context, told: Told) -> Fitted:
    """The input as it may be told. Raises `Permanent` if it does not fit after all that may be cut."""
    budget, cuts = brain.context, list[Cut]()
    if budget is None:
        return Fitted(told, cuts)
    room = budget.tokens - tokens_of(brain.instructions)
    for policy in budget.policy:
        if told.tokens <= room:
            break
        if (value := told.at(policy.field)) is not None:
            left = await _left(policy, ctx, value)
            after = 0 if left is None else tokens_of(left)
            if left != value:
                cuts.append(_cut(policy.field, _how(policy), tokens_of(value), after))
            told = told.put(policy.field, left)
    if told.tokens > room:
        raise _too_much(brain.agent, told.tokens + budget.tokens - room, budget)
    return Fitted(told, cuts)


def _how(policy: Policy) -> str:
    match policy:
        case Drop():
            return "dropped"
        case Summarise(by=by):
            return f"summarised by {by.name}"
    return "truncated"


async def _left(policy: Policy, ctx: Context, value: Any) -> Any:
    if isinstance(policy, Drop):
        return None
    if isinstance(policy, Summarise):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        value = await _summary(policy.by, ctx, text)
    return shortened(value, policy.tokens)


async def _summary(by: Agent, ctx: Context, text: str) -> Any:
    """What another agent makes of it, in the journal of this step. It is not told of the original request."""
    if not by.takes_context:

        async def act() -> Any:
            made = by.invoke(ctx, text) if by.spec.is_async else asyncio.to_thread(by.invoke, ctx, text)
            return by.output.dump_python(await made, mode="json")

        return await ctx.kept(ctx.place(), f"summary {by.name}", act, lambda found: found.value)
    agent, intent = ctx.agent, ctx.intent
    ctx.agent, ctx.intent = by.name, None
    try:
        made = by.invoke(ctx, text)
        return by.output.dump_python(await made if inspect.isawaitable(made) else made, mode="json")
    finally:
        ctx.agent, ctx.intent = agent, intent


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
                cuts.append(_cut(_name(part), "truncated", before, after))
        if excess > 0:
            raise _too_much(self._brain.agent, budget.tokens + excess, budget)
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


def _cut(field: str, how: str, before: int, after: int) -> Cut:
    message = f"{field} was {how}: about {before:,} tokens, now {after:,}"
    return {"message": message, "field": field, "how": how, "before": before, "after": after}


def _too_much(agent: str, tokens: int, budget: ContextBudget) -> Permanent:
    return Permanent(
        f"{agent} would be told about {tokens:,} tokens, and its context has room for {budget.tokens:,}:"
        " give it more, or say in its policy what else may be cut"
    )
