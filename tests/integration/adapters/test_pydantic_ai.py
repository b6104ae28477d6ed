"""Agents of pydantic-ai as agents, with a journal, against the scripted provider."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent as ForeignAgent
from pydantic_ai import BinaryContent, ModelRetry, RunContext, ToolReturn
from pydantic_ai.capabilities import ProcessEventStream
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from schemas import RunState
from schemas.errors import DefinitionError, Permanent
from tests.integration.adapters.shop import ONCE, PRICE, SECRET, Shop, Ticket, Verdict, of, provided
from tests.integration.adapters.shop import shop as shop
from workers import Agent, Context, Retry
from workers.adapters import pydantic_ai
from workers.scripted import Asked, Reply, ScriptedProvider, Turn, answer, call, refuse, text


def model(provider: ScriptedProvider, name: str = "scripted") -> OpenAIChatModel:
    client = AsyncOpenAI(base_url=provider.base_url, api_key=SECRET, max_retries=0, default_headers=ONCE)
    return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))


def router(agent: Any, **options: Any) -> Agent:
    given: dict[str, Any] = {"input": Ticket, "output": Verdict, "price": PRICE, "retry": Retry(max=0)}
    return pydantic_ai("router", agent, **(given | options))


def test_an_agent_with_tools_is_counted_and_both_kinds_of_calls_are_gated(shop: Shop) -> None:
    with provided([call("look_up", customer="ann"), answer({"team": "fire"})]) as provider:
        agent: ForeignAgent[Context, str] = ForeignAgent(model(provider), deps_type=Context)

        @agent.tool
        async def look_up(run: RunContext[Context], customer: str) -> str:
            """What a customer has."""
            return f"{customer} of {run.deps.tenant} has printers"

        end = shop.ask(router(agent, deps=lambda ctx: ctx))

    assert end.output == {"team": "fire", "urgent": False}
    assert "ann of default has printers" in provider.log[1].said
    assert shop.spent == of(provider)
    assert [(one.kind, one.name) for one in shop.gate.passed] == [
        ("model", "openai:scripted"),
        ("tool", "look_up"),
        ("model", "openai:scripted"),
    ]
    assert shop.gate.ended == ["well"] * 3
    assert shop.told() == [{"tool": "look_up"}]


def test_another_attempt_repeats_no_finished_call_of_model_or_tool(shop: Shop) -> None:
    # Given two tools that are called at the same time, and an attempt that fails after them
    done: list[str] = []
    both = Reply(calls=(*call("note", line="a").calls, *call("note", line="b").calls))
    script = [both, call("note", line="c"), [refuse(500), answer({"team": "fire"})]]
    with provided(script) as provider:
        agent = ForeignAgent(model(provider))

        @agent.tool_plain
        async def note(line: str) -> Any:
            """Write a line down."""
            done.append(line)
            if line == "b":
                return ToolReturn(
                    {"line": line}, content=["see", BinaryContent(b"\xff", media_type="image/png")]
                )
            if line == "c" and done.count("c") == 1:
                raise ModelRetry("say it again")
            return [line]

        end = shop.ask(router(agent, retry=Retry(max=1, base=0.01)))

    # Then the second attempt asks only what was not answered, with all that was said before
    assert end.output["team"] == "fire"
    assert sorted(done) == ["a", "b", "c"]
    assert [asked.turn for asked in provider.log] == [0, 1, 2, 2]
    first, second = provider.log[2:]
    assert first.said == second.said
    assert "say it again" in second.said
    assert "image/png" in second.said
    assert shop.spent == of(provider, refused=1)


def test_a_call_that_a_gate_refuses_is_not_made(shop: Shop) -> None:
    shop.gate.refuse = Permanent("the budget is used up")
    with provided([text("fire")]) as provider:
        end = shop.ask(router(ForeignAgent(model(provider))))

    assert (end.state, shop.failure, provider.log) == (RunState.FAILED, "the budget is used up", [])


def test_a_limit_puts_the_step_off_and_the_journal_has_what_was_done(shop: Shop) -> None:
    async def look_up(customer: str) -> str:
        """What a customer has."""
        return "printers"

    shop.gate.put_off = {0, 2, 4}
    with provided([call("look_up", customer="ann"), answer({"team": "fire"})]) as provider:
        end = shop.ask(router(ForeignAgent(model(provider), tools=[look_up])))

    assert end.output["team"] == "fire"
    assert len(provider.log) == 2
    assert shop.spent == of(provider)


def test_output_that_does_not_fit_goes_back_and_then_fails_for_good(shop: Shop) -> None:
    with provided([answer({"team": 7}), answer({"team": "fire"})]) as provider:
        assert shop.ask(router(ForeignAgent(model(provider)))).output["team"] == "fire"

    with provided(lambda asked: answer({"team": asked.turn})) as provider:
        shop.ask(router(ForeignAgent(model(provider), retries=1), retry=Retry(max=3)))
    assert "router gave no answer that fits" in shop.failure
    assert shop.spent.model_calls == 2


def test_a_stream_is_kept_whole(shop: Shop) -> None:
    seen: list[str] = []

    async def listen(run: Any, events: Any) -> None:
        seen.extend([event.event_kind async for event in events])

    with provided([text("fire")]) as provider:
        end = shop.ask(
            router(ForeignAgent(model(provider), capabilities=[ProcessEventStream(listen)]), output=str)
        )

    assert end.output == "fire"
    assert "part_start" in seen
    assert shop.spent == of(provider)


def test_a_fallback_is_priced_by_the_model_that_answers(shop: Shop) -> None:
    def script(asked: Asked) -> Turn:
        return refuse(500) if asked.model == "gpt-5" else text("hi", tokens=(1_000_000, 0))

    with provided(script) as provider:
        either = FallbackModel(model(provider, "gpt-5"), model(provider, "gpt-5-mini"))
        shop.ask(router(ForeignAgent(either), output=str, price=None))

    assert shop.spent.usd == pytest.approx(0.25)


def test_a_model_without_a_known_price_is_not_called(shop: Shop) -> None:
    with provided([text("fire")]) as provider:
        known = FallbackModel(model(provider, "gpt-5"), model(provider))
        shop.ask(router(ForeignAgent(known), price=None))

    assert "the price of openai:scripted is not known" in shop.failure
    assert provider.log == []


def test_a_refusal_of_the_provider_ends_for_good(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", SECRET)
    with provided([refuse(401, f"bad key {SECRET}")]) as provider:
        shop.ask(router(ForeignAgent(model(provider)), retry=Retry(max=3)))

    assert "bad key <SCRIPTED_KEY>" in shop.failure
    assert len(provider.log) == 1


def test_a_run_that_takes_too_long_is_cancelled(shop: Shop) -> None:
    over = threading.Event()

    async def never() -> str:
        """Waits."""
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        return ""

    with provided([call("never")]) as provider:
        shop.ask(router(ForeignAgent(model(provider), tools=[never]), timeout=1))

    assert "longer than 1 s" in shop.failure
    assert over.wait(5)


def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"a pydantic_ai\.Agent is wanted, not str"):
        router("agent")


def test_a_stream_is_in_the_events_of_the_run(shop: Shop) -> None:
    with provided([text("fire and water and air")]) as provider:
        end = shop.ask(router(ForeignAgent(model(provider)), output=str, stream=True))

    assert end.output == "fire and water and air"
    assert provider.log[0].stream
    assert shop.said == [{"part": 0, "kind": "text", "text": "fire and water and air"}]
    assert shop.spent == of(provider)
