"""OpenAI's Responses, by which `openai:gpt-5` is asked: what stands in a request, and what a reply looks like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from workers.scripted.log import Asked
from workers.scripted.wire import Said, cut


def messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Its input as the messages of a chat. Raises `KeyError` and `TypeError` for what is none."""
    found: list[dict[str, Any]] = []
    if body.get("instructions"):
        found.append({"role": "system", "content": body["instructions"]})
    given = body["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        match item.get("type", "message"):
            case "function_call_output":
                found.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
            case "function_call":
                told = {"name": item["name"], "arguments": item["arguments"]}
                _turn(found).setdefault("tool_calls", []).append({"id": item["call_id"], "function": told})
            case "message" if item["role"] == "assistant":
                _turn(found)["content"] = item["content"]
            case "message":
                found.append({"role": item["role"], "content": item["content"]})
    return found


def _turn(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The message of the model that its next item belongs to: several items are one turn of it."""
    if not found or found[-1]["role"] != "assistant":
        found.append({"role": "assistant", "content": None})
    return found[-1]


def whole(one: Said, asked: Asked) -> dict[str, Any]:
    """The reply in one piece."""
    return _response(one, asked, "completed", [_item(one, index) for index in range(_count(one))])


def pieces(one: Said, asked: Asked) -> Iterator[str]:
    """The reply as server-sent events."""
    told = [("response.created", {"response": _response(one, asked, "in_progress", [])})]
    for index in range(_count(one)):
        told += _item_events(one, index)
    told.append(("response.completed", {"response": whole(one, asked)}))
    for number, (kind, data) in enumerate(told):
        yield f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **data})}\n\n"


def _count(one: Said) -> int:
    return bool(one.text) + len(one.calls)


def _item(one: Said, index: int) -> dict[str, Any]:
    """An item of the output: the text, if there is one, comes first."""
    if one.text and index == 0:
        content = [{"type": "output_text", "text": one.text, "annotations": []}]
        return {
            "type": "message",
            "id": f"msg_{one.id}",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
    id, name, arguments = one.calls[index - bool(one.text)]
    return {
        "type": "function_call",
        "id": f"fc_{id}",
        "call_id": id,
        "name": name,
        "arguments": arguments,
        "status": "completed",
    }


def _item_events(one: Said, index: int) -> list[tuple[str, dict[str, Any]]]:
    item = _item(one, index)
    where = {"output_index": index, "item_id": item["id"]}
    if item["type"] == "message":
        begun: dict[str, Any] = {"content": []}
        part = {"content_index": 0}
        (text,) = item["content"]
        inner = [("response.content_part.added", {**where, **part, "part": {**text, "text": ""}})]
        inner += [
            ("response.output_text.delta", {**where, **part, "delta": piece, "logprobs": []})
            for piece in cut(one.text)
        ]
        inner.append(("response.output_text.done", {**where, **part, "text": one.text, "logprobs": []}))
        inner.append(("response.content_part.done", {**where, **part, "part": text}))
    else:
        begun, arguments = {"arguments": ""}, item["arguments"]
        inner = [
            ("response.function_call_arguments.delta", {**where, "delta": piece}) for piece in cut(arguments)
        ]
        ended = {**where, "name": item["name"], "arguments": arguments}
        inner.append(("response.function_call_arguments.done", ended))
    added = {"output_index": index, "item": {**item, **begun, "status": "in_progress"}}
    return [
        ("response.output_item.added", added),
        *inner,
        ("response.output_item.done", {"output_index": index, "item": item}),
    ]


def _response(one: Said, asked: Asked, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {
        "input_tokens": one.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": one.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": one.input_tokens + one.output_tokens,
    }
    return {
        "id": one.id,
        "object": "response",
        "created_at": 0,
        "status": status,
        "model": asked.model,
        "output": output,
        "usage": usage if status == "completed" else None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "temperature": None,
        "top_p": None,
    }
