"""Agents of OpenAI's Agents SDK as agents, against the scripted provider."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from agents import Agent as ForeignAgent
from agents import (
    ModelSettings,
    MultiProvider,
    OpenAIChatCompletionsModel,
    RunConfig,
    RunContextWrapper,
    function_tool,
)
from openai import AsyncOpenAI

from schemas import RunState
from schemas.errors import DefinitionError, Permanent
from schemas.events import EventKind
from tests.integration.adapters.shop import ONCE, PRICE, SECRET, Shop, Ticket, Verdict, of, provided
from tests.integration.adapters.shop import shop as shop
from workers import Agent, Context, Retry
from workers.adapters import openai_agents
from workers.scripted import ScriptedProvider, answer, call, refuse, text


def client(provider: ScriptedProvider) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=provider.base_url, api_key=SECRET, max_retries=0, default_headers=ONCE)


def own(provider: ScriptedProvider) -> OpenAIChatCompletionsModel:
    """A model object."""
    return OpenAIChatCompletionsModel("scripted", client(provider))


def named(provider: ScriptedProvider) -> RunConfig:
    """Where models are found by their names."""
    found = MultiProvider(openai_client=client(provider), openai_use_responses=False)
    return RunConfig(model_provider=found, tracing_disabled=True)


def router(provider: ScriptedProvider, agent: Any, **options: Any) -> Agent:
    given: dict[str, Any] = {
        "input": Ticket,
        "output": Verdict,
        "price": PRICE,
        "retry": Retry(max=0),
        "config": lambda: named(provider),
    }
    return openai_agents("router", agent, **(given | options))


@function_tool
async def look_up(ctx: RunContextWrapper[Context], customer: str) -> str:
    """What a customer has."""
    return f"{customer} of {ctx.context.tenant} has printers"


@pytest.mark.parametrize("objects", [True, False])
def test_an_agent_with_tools_and_types_is_counted_and_gated(shop: Shop, objects: bool) -> None:
    with provided([call("look_up", customer="ann"), answer({"team": "fire"})]) as provider:
        model: Any = own(provider) if objects else "scripted"
        agent = ForeignAgent("router", model=model, tools=[look_up], output_type=Verdict)
        end = shop.ask(router(provider, agent))

    assert end.output == {"team": "fire", "urgent": False}
    assert "ann of default has printers" in provider.log[1].said
    assert shop.spent == of(provider)
    assert [one.name for one in shop.gate.passed] == ["openai:scripted"] * 2
    assert shop.gate.ended == ["well", "well"]
    assert shop.told() == [{"agent": "router"}, {"tool": "look_up"}]


@pytest.mark.parametrize("objects", [True, False])
def test_a_call_that_a_gate_refuses_is_not_made(shop: Shop, objects: bool) -> None:
    shop.gate.refuse = Permanent("the budget is used up")
    with provided([text("fire")]) as provider:
        model: Any = own(provider) if objects else "scripted"
        end = shop.ask(router(provider, ForeignAgent("router", model=model)))

    assert (end.state, shop.failure, provider.log) == (RunState.FAILED, "the budget is used up", [])


@pytest.mark.parametrize("objects", [True, False])
def test_a_limit_puts_the_step_off_before_its_first_call_and_later_ones_wait_where_they_are(
    shop: Shop, objects: bool
) -> None:
    shop.gate.put_off = {0, 2}
    with provided([call("look_up", customer="ann"), text('{"team": "fire"}')]) as provider:
        model: Any = own(provider) if objects else "scripted"
        end = shop.ask(router(provider, ForeignAgent("router", model=model, tools=[look_up])))

    assert end.output["team"] == "fire"
    assert len(provider.log) == 2


def test_a_handover_is_progress_and_its_calls_are_counted(shop: Shop) -> None:
    with provided([call("transfer_to_fire"), text('{"team": "fire"}')]) as provider:
        fire = ForeignAgent("fire", model="scripted")
        end = shop.ask(router(provider, ForeignAgent("router", model="scripted", handoffs=[fire])))

    assert end.output["team"] == "fire"
    assert shop.spent.model_calls == 2
    assert {"handoff": "fire"} in shop.told()


@pytest.mark.parametrize("objects", [True, False])
def test_an_agent_that_is_a_tool_is_counted_too(shop: Shop, objects: bool) -> None:
    def script(asked: Any) -> Any:
        if "be brief" in asked.said:
            return text("fire")
        return call("brief", input="who?") if asked.turn == 0 else text('{"team": "fire"}')

    with provided(script) as provider:
        model: Any = own(provider) if objects else "scripted"
        brief = ForeignAgent("brief", instructions="be brief", model=model)
        tool = brief.as_tool("brief", "asks")
        shop.ask(router(provider, ForeignAgent("router", model="scripted", tools=[tool])))

    assert len(provider.log) == 3
    assert shop.spent == of(provider)
    assert len(shop.gate.passed) == (2 if objects else 3)
    assert len(shop.told(EventKind.STEP_WARNING)) == (1 if objects else 0)


def test_a_model_without_a_known_price_is_not_called(shop: Shop) -> None:
    with provided([text("fire")]) as provider:
        shop.ask(router(provider, ForeignAgent("router", model="scripted"), price=None))

    assert "the price of openai:scripted is not known" in shop.failure
    assert provider.log == []


def test_going_round_and_a_refusal_end_for_good(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", SECRET)
    with provided(lambda asked: call("look_up", customer=f"{asked.turn}")) as provider:
        agent = ForeignAgent("router", model="scripted", tools=[look_up])
        shop.ask(router(provider, agent, max_turns=3, retry=Retry(max=3)))
    assert "Max turns (3)" in shop.failure
    assert shop.spent == of(provider)
    assert len(provider.log) == 3

    with provided([refuse(401, f"bad key {SECRET}")]) as provider:
        shop.ask(router(provider, ForeignAgent("router", model="scripted"), retry=Retry(max=3)))
    assert "bad key <SCRIPTED_KEY>" in shop.failure
    assert len(provider.log) == 1


def test_a_run_that_takes_too_long_is_cancelled(shop: Shop) -> None:
    over = threading.Event()

    @function_tool
    async def never() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        return ""

    with provided([call("never")]) as provider:
        shop.ask(router(provider, ForeignAgent("router", model="scripted", tools=[never]), timeout=1))

    assert "longer than 1 s" in shop.failure
    assert over.wait(5)


def test_a_tool_that_wants_an_approval_ends_for_good(shop: Shop) -> None:
    @function_tool(needs_approval=True)
    async def pay(usd: int) -> str:
        return "paid"

    with provided([call("pay", usd=7)]) as provider:
        shop.ask(router(provider, ForeignAgent("router", model="scripted", tools=[pay])))

    assert "pay wants an approval" in shop.failure


def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"an agents\.Agent is wanted, not str"):
        openai_agents("router", "agent", input=str, output=str)


def test_a_stream_is_in_the_events_of_the_run(shop: Shop) -> None:
    with provided([call("look_up", customer="ann"), text('{"team": "fire", "urgent": true}')]) as provider:
        told = ModelSettings(include_usage=True)
        agent = ForeignAgent("router", model="scripted", model_settings=told, tools=[look_up])
        end = shop.ask(router(provider, agent, stream=True))

    assert end.output["urgent"]
    assert provider.log[0].stream
    assert shop.said == [{"agent": "router", "text": '{"team": "fire", "urgent": true}'}]
    assert shop.gate.ended == ["well", "well"]
    assert shop.spent == of(provider)
