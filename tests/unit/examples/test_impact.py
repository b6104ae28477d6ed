"""What plays the model of `examples.impact` finds what the tools gave, as a model is shown it."""

from __future__ import annotations

import json
from typing import Any

from examples.impact.script import play
from workers.models.untrusted import wrapped
from workers.scripted import Asked, Call, Reply

NEEDS = {"pydantic": ["anthropic", "fastapi"], "anthropic": ["baton"], "fastapi": []}


def asked(turn: int, *packages: str) -> Asked:
    """The request of this turn, after `dependents` has answered for these packages."""
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for package in packages:
        arguments = json.dumps({"package": package})
        calls.append({"id": package, "function": {"name": "dependents", "arguments": arguments}})
        told = wrapped(NEEDS[package], "dependents", "mark")
        results.append({"role": "tool", "tool_call_id": package, "content": told})
    said = [{"role": "user", "content": "pydantic\n"}, {"role": "assistant", "tool_calls": calls}, *results]
    return Asked("openai", {"model": "scripted", "messages": said}, "", turn, 0, None)


def test_it_asks_who_needs_those_that_need_it() -> None:
    turn = play(asked(1, "pydantic"))

    assert isinstance(turn, Reply)
    assert turn.calls == (
        Call("dependents", {"package": "anthropic"}),
        Call("dependents", {"package": "fastapi"}),
    )


def test_it_answers_with_what_was_found() -> None:
    turn = play(asked(2, *NEEDS))

    assert isinstance(turn, Reply)
    assert turn.output["breaks"] == ["anthropic", "fastapi", "baton"]
