"""What a model agent is shown of the past, and what it leaves for later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from workers.context import Context
from workers.memory.declared import Memory
from workers.memory.passages import as_data

QUERY = 2_000
"""Characters of the input that memories are looked for with."""


class Opening(NamedTuple):
    """What stands before the input of this run."""

    turns: Sequence[ModelMessage] = ()
    passages: str = ""


async def opening(memory: Memory | None, ctx: Context, asked: str) -> Opening:
    """The latest turns of the session, and what fits what is asked. The same in each attempt: both are in the journal.

    Raises `AgentError` for a session without a key.
    """
    if memory is None:
        return Opening()
    turns: list[ModelMessage] = []
    if memory.session:
        for said in await _history(memory, ctx):
            turns += _turn(said)
    if not memory.passages:
        return Opening(turns)
    found = await ctx.memory.recall(
        asked[:QUERY], key=_keys(memory, ctx), most=memory.passages, least_score=memory.least_score
    )
    return Opening(turns, as_data(found))


async def closing(memory: Memory | None, ctx: Context, asked: str, answered: Any) -> None:
    """Add this turn to the session, once."""
    if memory is not None and memory.session:
        await ctx.session().append({"asked": asked, "answered": answered})


async def _history(memory: Memory, ctx: Context) -> list[Any]:
    session = ctx.session()

    async def read() -> list[Any]:
        return [one.message for one in await session.history(memory.turns)]

    kept: list[Any] = await ctx.kept(ctx.place(), "session", read, lambda found: found.value)
    return kept


def _keys(memory: Memory, ctx: Context) -> tuple[str, ...]:
    """Those that it names; else what is remembered of the run's key and of nobody in particular."""
    if memory.keys is not None:
        return (memory.keys,) if isinstance(memory.keys, str) else memory.keys
    return ("",) if ctx.key is None else (ctx.key, "")


def _turn(said: Any) -> list[ModelMessage]:
    """A message of a session, whoever has written it, as the model hears it."""
    match said:
        case {"asked": asked, "answered": answered}:
            return [_heard(asked), _spoken(answered)]
        case {"role": "assistant", "content": content}:
            return [_spoken(content)]
        case {"role": "user", "content": content}:
            return [_heard(content)]
    return [_heard(said)]


def _heard(said: Any) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(content=_text(said))])


def _spoken(said: Any) -> ModelResponse:
    return ModelResponse(parts=[TextPart(content=_text(said))])


def _text(said: Any) -> str:
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
