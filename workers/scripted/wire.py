"""The wire formats of chats: what a reply looks like in each, whole and as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from workers.scripted.log import Asked
from workers.scripted.script import Call, Refusal, Reply

PIECE = 12
"""Characters in a piece of a stream."""
OUTPUT_TOOL = "final_result"
"""The tool by which pydantic-ai asks for structured output, as far as several are there."""


class Said(NamedTuple):
    """A reply as both formats have it."""

    id: str
    text: str
    calls: tuple[tuple[str, str, str], ...]
    """Id, name, and arguments as JSON text."""
    input_tokens: int
    output_tokens: int


def said(reply: Reply, asked: Asked, number: int) -> Said:
    """Put a reply into the words that the request asks for."""
    words, calls = reply.text, reply.calls
    if reply.output is not None:
        tool = _output_tool(asked)
        if tool is None:
            words = json.dumps(reply.output)
        else:
            wrapped = reply.output if isinstance(reply.output, dict) else {"response": reply.output}
            calls = (*calls, Call(tool, wrapped))
    # The same request, repeated, names its calls the same way.
    made = tuple(
        (f"call_{asked.conversation}_{asked.turn}_{index}", one.name, _arguments(one, reply))
        for index, one in enumerate(calls)
    )
    spoken = len(words) + sum(len(name) + len(arguments) for _, name, arguments in made)
    tokens = reply.tokens or (max(1, len(asked.said) // 4), max(1, spoken // 4))
    return Said(f"scripted-{number}", words, made, *tokens)


def _arguments(one: Call, reply: Reply) -> str:
    whole = json.dumps(one.arguments)
    return whole[:-1] + ', "broken' if reply.wrong == "arguments" else whole


def _output_tool(asked: Asked) -> str | None:
    wanted = asked.body.get("response_format") or (asked.body.get("text") or {}).get("format") or {}
    if wanted.get("type") in ("json_schema", "json_object"):
        return None
    forced = (asked.body.get("tool_choice") or {}) if asked.wire != "anthropic" else {}
    if isinstance(forced, dict) and forced.get("type") == "function":
        return str(forced.get("function", forced)["name"])
    if OUTPUT_TOOL in asked.tools:
        return OUTPUT_TOOL
    return asked.tools[0] if len(asked.tools) == 1 else None


def error(refusal: Refusal, asked: Asked | None) -> dict[str, Any]:
    kind = "rate_limit_error" if refusal.status == 429 else "api_error"
    told = {"message": refusal.message, "type": kind}
    if asked is not None and asked.wire == "anthropic":
        return {"type": "error", "error": told}
    return {"error": {**told, "code": None, "param": None}}


def whole(one: Said, asked: Asked) -> dict[str, Any]:
    """The reply in one piece."""
    return _openai(one, asked) if asked.wire == "openai" else _anthropic(one, asked)


def pieces(one: Said, asked: Asked) -> Iterator[str]:
    """The reply as server-sent events."""
    return _openai_events(one, asked) if asked.wire == "openai" else _anthropic_events(one, asked)


def cut(words: str) -> Iterator[str]:
    """The words in the pieces of a stream."""
    return (words[at : at + PIECE] for at in range(0, len(words), PIECE))


# --- OpenAI, chat completions -----------------------------------------------------------------------------


def _openai(one: Said, asked: Asked) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": one.text or None}
    if one.calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in one.calls
        ]
    return {
        "id": one.id,
        "object": "chat.completion",
        "created": 0,
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": _openai_end(one)}],
        "usage": _openai_usage(one),
    }


def _openai_end(one: Said) -> str:
    return "tool_calls" if one.calls else "stop"


def _openai_usage(one: Said) -> dict[str, int]:
    total = one.input_tokens + one.output_tokens
    return {"prompt_tokens": one.input_tokens, "completion_tokens": one.output_tokens, "total_tokens": total}


def _openai_events(one: Said, asked: Asked) -> Iterator[str]:
    def event(delta: dict[str, Any], end: str | None = None) -> str:
        return chunk([{"index": 0, "delta": delta, "finish_reason": end}])

    def chunk(choices: list[Any], **others: Any) -> str:
        head = {"id": one.id, "object": "chat.completion.chunk", "created": 0, "model": asked.model}
        return f"data: {json.dumps({**head, 'choices': choices, **others})}\n\n"

    yield event({"role": "assistant", "content": ""})
    for piece in cut(one.text):
        yield event({"content": piece})
    for index, (id, name, arguments) in enumerate(one.calls):
        begun = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
        yield event({"tool_calls": [begun]})
        for piece in cut(arguments):
            yield event({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield event({}, _openai_end(one))
    if (asked.body.get("stream_options") or {}).get("include_usage"):
        yield chunk([], usage=_openai_usage(one))
    yield "data: [DONE]\n\n"


# --- Anthropic, messages ----------------------------------------------------------------------------------


def _anthropic(one: Said, asked: Asked) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": one.text}] if one.text else []
    content += [
        {"type": "tool_use", "id": id, "name": name, "input": _input(arguments)}
        for id, name, arguments in one.calls
    ]
    return {
        "id": one.id,
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": _anthropic_end(one),
        "stop_sequence": None,
        "usage": {"input_tokens": one.input_tokens, "output_tokens": one.output_tokens},
    }


def _input(arguments: str) -> Any:
    """Here arguments are JSON and no text: broken ones are a text where an object should be."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _anthropic_end(one: Said) -> str:
    return "tool_use" if one.calls else "end_turn"


def _anthropic_events(one: Said, asked: Asked) -> Iterator[str]:
    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"

    begun = _anthropic(one, asked) | {"content": [], "stop_reason": None}
    begun["usage"] = {"input_tokens": one.input_tokens, "output_tokens": 1}
    yield event("message_start", message=begun)
    blocks: list[tuple[dict[str, Any], str, str, str]] = []
    if one.text:
        blocks.append(({"type": "text", "text": ""}, "text_delta", "text", one.text))
    blocks += [
        (
            {"type": "tool_use", "id": id, "name": name, "input": {}},
            "input_json_delta",
            "partial_json",
            arguments,
        )
        for id, name, arguments in one.calls
    ]
    for index, (block, kind, key, words) in enumerate(blocks):
        yield event("content_block_start", index=index, content_block=block)
        for piece in cut(words):
            yield event("content_block_delta", index=index, delta={"type": kind, key: piece})
        yield event("content_block_stop", index=index)
    ended = {"stop_reason": _anthropic_end(one), "stop_sequence": None}
    yield event("message_delta", delta=ended, usage={"output_tokens": one.output_tokens})
    yield event("message_stop")
