"""What a model says while it speaks, piece by piece."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from typing import Any, NamedTuple

from pydantic_ai.messages import (
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models import StreamedResponse

from workers.models.failures import understood


class Piece(NamedTuple):
    """Some characters, and what they belong to."""

    text: str
    about: dict[str, Any]
    """`part`, its number in this response; `kind`: `text`, `thinking`, `output` or `tool`, its name as `tool`."""


async def pieces(speech: StreamedResponse, outputs: Collection[str]) -> AsyncIterator[Piece]:
    """All of a response as it comes; `outputs` are the tools by which structured output is given."""
    parts: dict[int, dict[str, Any]] = {}
    async for event in _heard(speech):
        if isinstance(event, PartStartEvent):
            parts[event.index] = {"part": event.index, **_kind(event, outputs)}
        text = _text(event)
        if text and isinstance(event, PartStartEvent | PartDeltaEvent):
            yield Piece(text, parts[event.index])


async def _heard(speech: StreamedResponse) -> AsyncIterator[ModelResponseStreamEvent]:
    """All that it consists of. What a listener raises of it is none of this."""
    with understood():
        async for event in speech:
            yield event


def _kind(event: PartStartEvent, outputs: Collection[str]) -> dict[str, str]:
    match event.part:
        case ThinkingPart():
            return {"kind": "thinking"}
        case ToolCallPart(tool_name=name) if name in outputs:
            return {"kind": "output"}
        case ToolCallPart(tool_name=name):
            return {"kind": "tool", "tool": name}
    return {"kind": "text"}


def _text(event: ModelResponseStreamEvent) -> str:
    match event:
        case PartStartEvent(part=TextPart(content=said) | ThinkingPart(content=said)):
            return said
        case PartStartEvent(part=ToolCallPart(args=said)):
            return _as_text(said)
        case PartDeltaEvent(delta=TextPartDelta(content_delta=said)):
            return said
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(said))):
            return said
        case PartDeltaEvent(delta=ToolCallPartDelta(args_delta=said)):
            return _as_text(said)
    return ""


def _as_text(arguments: Any) -> str:
    if not arguments:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
