"""What a user gets who names a model of OpenAI or Anthropic: by Responses, by chat, by messages, streamed or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.store.schema import upgrade
from schemas import RunState
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_streaming import said
from tests.integration.worker.test_thinking import PRICE, ask, provided, spent, told, writer
from tests.support import Databases
from workers import Model, Retry
from workers.scripted import Asked, Reply, ScriptedProvider, answer, call, refuse, text

SECRET = "sk-scripted-0123456789"
NAMES = {
    "responses": "openai:gpt-5",
    "openai": "openai-chat:gpt-5",
    "anthropic": "anthropic:claude-sonnet-4-6",
}


@pytest.fixture
def desk(databases: Databases) -> Iterator[Desk]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Desk(url)
    yield made
    made.close()
    databases.drop(url)


@pytest.fixture(params=NAMES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pointed(provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the providers' own clients find it, as their documentation says."""
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)


def search(query: str) -> str:
    return f"{query}!"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tools_and_structured_output(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, wire: str, stream: bool
) -> None:
    begin = Reply(text="Let me look.", calls=call("search", query="tides").calls)
    with provided([begin, answer({"lines": 7}), answer({"lines": ["Twice a day."]})]) as provider:
        pointed(provider, monkeypatch)
        run = ask(desk, writer(provider, model=NAMES[wire], base_url=None, tools=[search], stream=stream))

    assert desk.end(run).output == {"lines": ["Twice a day."]}
    assert [asked.wire for asked in provider.log] == [wire] * 3
    # The client of Anthropic asks for a stream where a long answer may come, whoever hears it
    assert {asked.stream for asked in provider.log} == {stream or wire == "anthropic"}
    assert all(asked.holds(SECRET) for asked in provider.log)
    assert "tides!" in told(provider, 1)
    assert "valid array" in told(provider, 2)
    assert spent(desk, run).tokens == provider.input_tokens + provider.output_tokens
    if stream:
        assert said(desk, run, kind="text") == "Let me look."
        assert said(desk, run, kind="tool") == '{"query": "tides"}'
        assert said(desk, run, kind="output").endswith('{"lines": ["Twice a day."]}')


def test_what_passes_is_repeated_and_a_retry_goes_on_at_the_call(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    trouble = [refuse(429, retry_after=0.01), refuse(500), text("", wrong="body"), answer({"lines": ["ok"]})]
    with provided([call("search", query="tides"), trouble]) as provider:
        pointed(provider, monkeypatch)
        options: dict[str, Any] = {"tools": [search], "retry": Retry(max=1, base=0.01)}
        run = ask(desk, writer(provider, model=NAMES[wire], base_url=None, **options))

    assert desk.end(run).output == {"lines": ["ok"]}
    assert [asked.turn for asked in provider.log] == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("wire", "other"), [(one, other) for one in NAMES for other in NAMES if one != other], indirect=["wire"]
)
def test_another_provider_goes_on_in_the_middle_of_a_conversation(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, wire: str, other: str
) -> None:
    def script(asked: Asked) -> Any:
        if asked.wire == wire:
            return refuse(503) if asked.turn else call("search", query="tides")
        return answer({"lines": [f"by {asked.wire}"]})

    with provided(script) as provider:
        pointed(provider, monkeypatch)
        stand_in = Model(NAMES[other], price=PRICE)
        run = ask(
            desk, writer(provider, model=NAMES[wire], base_url=None, tools=[search], fallbacks=[stand_in])
        )

    assert desk.end(run).output == {"lines": [f"by {other}"]}
    assert [asked.wire for asked in provider.log] == [wire, wire, other]
    assert provider.log[2].used[0].tool == "search"
    assert "tides!" in provider.log[2].said


def test_prices_of_known_models_are_known(desk: Desk, monkeypatch: pytest.MonkeyPatch, wire: str) -> None:
    with provided([answer({"lines": []}, tokens=(1_000_000, 1000))]) as provider:
        pointed(provider, monkeypatch)
        run = ask(desk, writer(provider, model=NAMES[wire], base_url=None, price=None))

    assert desk.end(run).state == RunState.COMPLETED
    assert 1 < spent(desk, run).usd < 10
