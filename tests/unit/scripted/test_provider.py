"""The scripted provider, asked by a plain HTTP client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas import Price
from workers.scripted import Asked, Reply, ScriptedProvider, Turn, answer, call, refuse, text

OUTPUT = {"type": "function", "function": {"name": "final_result", "parameters": {"type": "object"}}}
SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
FORCED = {"type": "function", "function": {"name": "search"}}
HELLO = {"role": "user", "content": "Hello"}


def ask(
    provider: ScriptedProvider, *further: dict[str, Any], wire: str = "openai", **options: Any
) -> httpx.Response:
    url = f"{provider.base_url}/chat/completions" if wire == "openai" else f"{provider.url}/v1/messages"
    body = {"model": "m", "messages": [HELLO, *further], **options}
    return httpx.post(url, json=body, headers={"authorization": "Bearer sk-secret"}, timeout=10)


def said(response: httpx.Response) -> Any:
    return response.raise_for_status().json()["choices"][0]["message"]


def events(response: httpx.Response) -> Iterator[Any]:
    """The data of a stream's events."""
    for line in response.text.splitlines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def test_each_turn_of_a_conversation_is_answered_by_its_entry_however_often() -> None:
    with ScriptedProvider([call("search", query="tides"), text("Twice a day.")]) as provider:
        first = said(ask(provider, tools=[SEARCH]))
        repeated = said(ask(provider, tools=[SEARCH]))
        (made,) = first["tool_calls"]
        result = {"role": "tool", "tool_call_id": made["id"], "content": "..."}
        second = said(ask(provider, first, result, tools=[SEARCH]))
        beyond = ask(provider, first, result, second, HELLO)

    assert first == repeated
    assert (made["function"]["name"], json.loads(made["function"]["arguments"])) == (
        "search",
        {"query": "tides"},
    )
    assert second == {"role": "assistant", "content": "Twice a day."}
    assert beyond.status_code == 400
    assert "the script has 2 turns" in beyond.json()["error"]["message"]
    assert [(asked.turn, asked.again, asked.tools) for asked in provider.log] == [
        (0, 0, ("search",)),
        (0, 1, ("search",)),
        (1, 0, ("search",)),
        (2, 0, ()),
    ]
    assert len({asked.conversation for asked in provider.log}) == 1


def test_it_counts_what_it_would_have_cost_and_keeps_no_credential() -> None:
    with ScriptedProvider(
        [text("Hi", tokens=(1_000_000, 200_000))], price=Price(input=2, output=10)
    ) as provider:
        usage = ask(provider).json()["usage"]

    assert usage == {"prompt_tokens": 1_000_000, "completion_tokens": 200_000, "total_tokens": 1_200_000}
    assert provider.usd == 4
    (answered,) = provider.answered
    assert (answered.asked, answered.usd) == (provider.log[0], 4)
    assert (answered.input_tokens, answered.output_tokens) == (1_000_000, 200_000)
    assert provider.log[0].holds("sk-secret")
    assert "sk-secret" not in repr(provider.log)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"tools": [SEARCH, OUTPUT]}, ("final_result", {"facts": 3})),
        ({"tools": [SEARCH, OUTPUT], "tool_choice": FORCED}, ("search", {"facts": 3})),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, (None, {"facts": 3})),
        ({}, (None, {"facts": 3})),
    ],
    ids=["output tool", "forced tool", "response format", "neither"],
)  # fmt: skip
def test_structured_output_comes_as_it_was_asked_for(options: dict[str, Any], found: Any) -> None:
    with ScriptedProvider([answer({"facts": 3})]) as provider:
        message = said(ask(provider, **options))

    if "tool_calls" in message:
        made = message["tool_calls"][0]["function"]
        assert (made["name"], json.loads(made["arguments"])) == found
    else:
        assert (None, json.loads(message["content"])) == found


def test_it_refuses_as_long_as_the_script_says_and_names_the_wait() -> None:
    with ScriptedProvider([[refuse(429, retry_after=1.5), refuse(500), text("Hi")]]) as provider:
        limited, broken, fine, still = (ask(provider) for _ in range(4))

    assert (limited.status_code, limited.headers["retry-after"], limited.headers["retry-after-ms"]) == (
        429,
        "2",
        "1500",
    )
    assert limited.json()["error"]["type"] == "rate_limit_error"
    assert broken.status_code == 500
    assert said(fine) == said(still)


def test_it_can_be_slow_and_never_end() -> None:
    with ScriptedProvider([text("Hi", delay=0.2)]) as provider:
        begun = time.monotonic()
        ask(provider)
        assert time.monotonic() - begun >= 0.2
    with ScriptedProvider(lambda asked: call("search", turn=asked.turn)) as provider:
        for turn in range(20):
            assert said(ask(provider, *turn * [{"role": "assistant", "content": ""}]))["tool_calls"]


def test_a_stream_says_the_same_in_pieces() -> None:
    reply = Reply(text="It comes twice a day.", calls=call("search", query="tides and the moon").calls)
    with ScriptedProvider([reply]) as provider:
        streamed = ask(provider, stream=True, stream_options={"include_usage": True})
        whole = said(ask(provider))

    assert streamed.text.endswith("data: [DONE]\n\n")
    *chunks, usage = events(streamed)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == whole["content"]
    pieces = [made["function"]["arguments"] for delta in deltas for made in delta.get("tool_calls", ())]
    assert "".join(pieces) == whole["tool_calls"][0]["function"]["arguments"]
    assert len(pieces) > 2
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_can_be_cut(stream: bool) -> None:
    with (
        ScriptedProvider([text("It comes twice a day.", wrong="cut")]) as provider,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        ask(provider, stream=stream)


def test_json_can_be_broken_in_a_body_and_in_arguments() -> None:
    arguments = Reply(calls=call("search", query="tides").calls, wrong="arguments")
    with ScriptedProvider([[text("Hi", wrong="body"), arguments]]) as provider:
        with pytest.raises(json.JSONDecodeError):
            ask(provider).json()
        (made,) = said(ask(provider))["tool_calls"]

    with pytest.raises(json.JSONDecodeError):
        json.loads(made["function"]["arguments"])


def test_a_script_that_raises_is_heard_of() -> None:
    def script(asked: Asked) -> Turn:
        raise ValueError(asked.model)

    with pytest.raises(ValueError, match=r"^m$"), ScriptedProvider(script) as provider:
        assert ask(provider).status_code == 500


@pytest.mark.parametrize("script", [["Hi"], lambda asked: None, [["Hi"]]])
def test_what_is_no_turn_is_heard_of(script: Any) -> None:
    with pytest.raises(TypeError, match="no turn: write text"), ScriptedProvider(script) as provider:
        assert ask(provider).status_code == 500


def test_a_tool_may_take_a_name_and_an_error_may_be_slow() -> None:
    assert call("find", name="ann").calls[0].arguments == {"name": "ann"}
    assert refuse(500, delay=0.5).delay == 0.5


def test_it_listens_where_it_is_told_to() -> None:
    with ScriptedProvider([text("Hi")]) as first:
        where = first.base_url
        port = int(where.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="in use"):
            ScriptedProvider([], port=port)
    with ScriptedProvider([text("Hi")], port=port) as again:
        assert again.base_url == where


def test_an_idle_connection_is_closed_by_its_client_first() -> None:
    # Else a request that is just being sent may meet the end of its connection, and counts although nobody heard it.
    kept = httpx.Limits().keepalive_expiry

    assert kept is not None
    with ScriptedProvider([]) as provider:
        assert provider._server.config.timeout_keep_alive > kept


def test_what_is_no_request_is_refused_with_a_reason() -> None:
    with ScriptedProvider([]) as provider:
        unknown = httpx.get(f"{provider.base_url}/models")
        broken = httpx.post(f"{provider.base_url}/chat/completions", content=b"{")

    assert (unknown.status_code, broken.status_code) == (404, 400)
    assert "POST /v1/chat/completions" in unknown.json()["error"]["message"]
    assert provider.log == []


def test_it_speaks_to_clients_of_anthropic_too() -> None:
    search = {"name": "search", "input_schema": {"type": "object"}}
    reply = Reply(text="Let me look.", calls=call("search", query="tides").calls, tokens=(7, 5))
    with ScriptedProvider([[reply, reply, refuse(529)]]) as provider:
        whole = ask(provider, wire="anthropic", tools=[search]).json()
        streamed = list(events(ask(provider, wire="anthropic", tools=[search], stream=True)))
        overloaded = ask(provider, wire="anthropic")

    words, tool = whole["content"]
    assert (words["text"], tool["name"], tool["input"]) == ("Let me look.", "search", {"query": "tides"})
    assert (whole["stop_reason"], whole["usage"]) == ("tool_use", {"input_tokens": 7, "output_tokens": 5})
    deltas = [event["delta"] for event in streamed if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "Let me look."
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == {"query": "tides"}
    assert [event["type"] for event in streamed if "block" not in event["type"]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert overloaded.json()["type"] == "error"
    assert provider.log[0].tools == ("search",)
