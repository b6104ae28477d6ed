"""Agents and teams of AutoGen as agents, against the scripted provider and AutoGen's own replayed model."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient

from schemas import RunState
from schemas.errors import DefinitionError, Permanent
from schemas.events import EventKind
from tests.integration.adapters.shop import ONCE, PRICE, SECRET, Shop, Ticket, Verdict, of, provided
from tests.integration.adapters.shop import shop as shop
from workers import Agent, Retry
from workers.adapters import autogen
from workers.scripted import ScriptedProvider, answer, call, refuse, text

INFO = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=True,
    structured_output=True,
    family=ModelFamily.UNKNOWN,
)


def client(provider: ScriptedProvider) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(
        model="scripted",
        base_url=provider.base_url,
        api_key=SECRET,
        model_info=INFO,
        max_retries=0,
        default_headers=ONCE,
    )


def router(build: Any, **options: Any) -> Agent:
    given: dict[str, Any] = {"input": Ticket, "output": Verdict, "price": PRICE, "retry": Retry(max=0)}
    return autogen("router", build, **(given | options))


async def look_up(customer: str) -> str:
    """What a customer has."""
    return f"{customer} has printers"


def test_an_agent_with_a_tool_is_counted_and_gated(shop: Shop) -> None:
    with provided([call("look_up", customer="ann"), text('{"team": "fire"}')]) as provider:
        one = client(provider)
        agent = router(
            lambda gated: AssistantAgent("router", gated(one), tools=[look_up], reflect_on_tool_use=True)
        )
        end = shop.ask(agent)

    assert end.output == {"team": "fire", "urgent": False}
    assert "ann has printers" in provider.log[1].said
    assert shop.spent == of(provider)
    assert [one.name for one in shop.gate.passed] == ["openai:scripted"] * 2
    assert shop.gate.ended == ["well", "well"]
    assert {"source": "router", "message": "TextMessage"} in shop.told()


def test_a_typed_message_is_the_output_and_a_stream_is_counted(shop: Shop) -> None:
    with provided([answer({"team": "fire", "urgent": True})]) as provider:
        one = client(provider)
        agent = router(
            lambda gated: AssistantAgent(
                "router", gated(one), output_content_type=Verdict, model_client_stream=True
            )
        )
        end = shop.ask(agent)

    assert end.output == {"team": "fire", "urgent": True}
    assert shop.said == [{"source": "router", "text": '{"team": "fire", "urgent": true}'}]
    assert shop.spent.model_calls == 1
    assert shop.spent.usd > 0
    assert shop.gate.ended == ["well"]


def team(gate: Any) -> Any:
    agents: list[Any] = [AssistantAgent(name, gate) for name in ("first", "second")]
    return RoundRobinGroupChat(agents, termination_condition=MaxMessageTermination(3))


def test_a_team_is_made_anew_for_each_attempt(shop: Shop) -> None:
    with provided(lambda asked: text('{"team": "fire"}')) as provider:
        agent = router(lambda gated: team(gated(client(provider))))
        shop.ask(agent)
        end = shop.ask(agent)

    assert end.output["team"] == "fire"
    assert shop.spent.model_calls == 2
    assert len(provider.log) == 4


@pytest.mark.parametrize("together", [True, False])
def test_a_call_that_a_gate_refuses_is_not_made_whatever_a_team_makes_of_it(
    shop: Shop, together: bool
) -> None:
    shop.gate.refuse = Permanent("the budget is used up")
    with provided([text("fire")]) as provider:
        one = client(provider)
        end = shop.ask(
            router(lambda gated: team(gated(one)) if together else AssistantAgent("router", gated(one)))
        )

    assert (end.state, shop.failure, provider.log) == (RunState.FAILED, "the budget is used up", [])


def test_a_limit_puts_a_team_off_before_its_first_call_and_later_ones_wait_where_they_are(shop: Shop) -> None:
    shop.gate.put_off = {0, 2}
    with provided(lambda asked: text('{"team": "fire"}')) as provider:
        end = shop.ask(router(lambda gated: team(gated(client(provider)))))

    assert end.output["team"] == "fire"
    assert len(provider.log) == 2


def test_a_refusal_of_the_provider_ends_for_good_also_in_a_team(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", SECRET)
    with provided([refuse(401, f"bad key {SECRET}")]) as provider:
        shop.ask(router(lambda gated: team(gated(client(provider))), retry=Retry(max=3)))

    assert len(provider.log) == 1
    assert "bad key <SCRIPTED_KEY>" in shop.failure
    ((kept,),) = shop.query("SELECT count(*) FROM attempts WHERE error::text LIKE %s", f"%{SECRET}%")
    assert kept == 0


def test_a_client_that_is_not_gated_is_counted_by_what_messages_tell_or_the_run_fails(shop: Shop) -> None:
    def build(gated: Any) -> Any:
        return AssistantAgent("router", ReplayChatCompletionClient(['{"team": "fire"}'], INFO))

    assert shop.ask(router(build)).output["team"] == "fire"
    assert shop.spent.model_calls == 1
    assert shop.spent.usd > 0
    assert len(shop.told(EventKind.STEP_WARNING)) == 1

    assert shop.ask(router(build, price=None)).state == RunState.FAILED
    assert "the price of autogen:unnamed is not known" in shop.failure


def test_a_replayed_model_goes_through_the_gate(shop: Shop) -> None:
    replayed = ReplayChatCompletionClient(['{"team": "fire"}'], INFO)
    assert shop.ask(router(lambda gated: AssistantAgent("router", gated(replayed)))).output["team"] == "fire"
    assert [one.name for one in shop.gate.passed] == ["replay:ReplayChatCompletionClient"]


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
        one = client(provider)
        shop.ask(router(lambda gated: AssistantAgent("router", gated(one), tools=[never]), timeout=1))

    assert "longer than 1 s" in shop.failure
    assert over.wait(5)


def test_a_team_that_takes_too_long_is_cancelled(shop: Shop) -> None:
    with provided([text("late", delay=30)]) as provider:
        shop.ask(router(lambda gated: team(gated(client(provider))), timeout=1))

    assert "longer than 1 s" in shop.failure
    assert shop.gate.ended == ["CancelledError"]


def test_an_agent_that_is_no_function_is_refused() -> None:
    agent = AssistantAgent("router", ReplayChatCompletionClient([], INFO))
    with pytest.raises(DefinitionError, match="give a function that makes one"):
        router(agent)
