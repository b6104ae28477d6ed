"""Graphs of LangGraph as agents, against the scripted provider."""

from __future__ import annotations

import asyncio
import threading
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AnyMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt

from schemas import Budget, RunState, Usage
from schemas.breakers import Breaker
from schemas.errors import DefinitionError, Permanent
from schemas.events import EventKind
from schemas.limits import Limit
from tests.integration.adapters.shop import PRICE, SECRET, Shop, Ticket, Verdict, of, provided
from tests.integration.adapters.shop import shop as shop
from tests.support import eventually
from workers import Agent, Context, ContextBudget, Drop, Guard, Retry, Truncate, agent
from workers.adapters import langgraph
from workers.scripted import ScriptedProvider, answer, refuse, text


class Desk(TypedDict, total=False):
    text: str
    team: str


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def model(provider: ScriptedProvider, **options: Any) -> ChatOpenAI:
    given = {"model": "scripted", "base_url": provider.base_url, "api_key": SECRET, "max_retries": 0}
    return ChatOpenAI(**(given | options))  # type: ignore[arg-type]


def talk(provider: ScriptedProvider) -> Any:
    """A graph over messages with one async node."""

    async def reply(state: Talk) -> Any:
        return {"messages": [await model(provider).ainvoke(state["messages"])]}

    return StateGraph(Talk).add_node("reply", reply).add_edge(START, "reply").compile()


def reviewer(graph: Any, **options: Any) -> Agent:
    given: dict[str, Any] = {"input": Ticket, "output": Verdict, "price": PRICE, "retry": Retry(max=0)}
    return langgraph("reviewer", graph, **(given | options))


def test_a_graph_over_messages_takes_and_gives_types_and_its_call_is_counted(shop: Shop) -> None:
    with provided([text('```json\n{"team": "fire", "urgent": true}\n```')]) as provider:
        end = shop.ask(reviewer(talk(provider)))

    assert end.output == {"team": "fire", "urgent": True}
    assert "on fire" in provider.log[0].said
    assert shop.spent == of(provider)
    (call,) = shop.gate.passed
    assert (call.kind, call.name, call.agent) == ("model", "openai:scripted", "reviewer")
    assert call.usage == of(provider)
    assert call.worst.model_calls == 1
    assert shop.gate.ended == ["well"]
    assert shop.told() == [{"node": "reply"}]


def test_a_graph_over_a_state_takes_fields_and_its_sync_node_passes_the_gate_too(shop: Shop) -> None:
    def route(state: Desk) -> Desk:
        get_stream_writer()({"seen": len(state["text"])})
        return {"team": str(model(provider).invoke(state["text"]).text)}

    graph = StateGraph(Desk).add_node("route", route).add_edge(START, "route").compile()
    with provided([text("fire")]) as provider:
        end = shop.ask(reviewer(graph))

    assert end.output == {"team": "fire", "urgent": False}
    assert shop.spent == of(provider)
    assert shop.gate.ended == ["well"]
    assert shop.told() == [{"seen": 23}, {"node": "route"}]


@pytest.mark.parametrize("sync", [True, False])
def test_a_call_that_a_gate_refuses_is_not_made_whatever_a_node_makes_of_it(shop: Shop, sync: bool) -> None:
    async def route(state: Desk) -> Desk:
        try:
            return {"team": str((await model(provider).ainvoke(state["text"])).text)}
        except Permanent:
            raise ValueError("no team") from None

    def route_sync(state: Desk) -> Desk:
        return {"team": str(model(provider).invoke(state["text"]).text)}

    node: Any = route_sync if sync else route
    graph = StateGraph(Desk).add_node("route", node).add_edge(START, "route").compile()
    shop.gate.refuse = Permanent("the budget is used up")
    with provided([text("fire")]) as provider:
        end = shop.ask(reviewer(graph))

    assert end.state == RunState.FAILED
    assert shop.failure == "the budget is used up"
    assert provider.log == []


def test_an_async_node_that_blocks_is_counted_past_the_gate_and_warned_of(shop: Shop) -> None:
    async def route(state: Desk) -> Desk:
        return {"team": str(model(provider).invoke(state["text"]).text)}

    graph = StateGraph(Desk).add_node("route", route).add_edge(START, "route").compile()
    with provided([text("fire")]) as provider:
        end = shop.ask(reviewer(graph))

    assert end.output["team"] == "fire"
    assert shop.gate.passed == []
    assert shop.spent == of(provider)
    (warning,) = shop.told(EventKind.STEP_WARNING)
    assert "no gate could hold it" in warning["message"]


@pytest.mark.parametrize("sync", [True, False])
def test_a_limit_puts_the_step_off_before_its_first_call_and_later_ones_wait_where_they_are(
    shop: Shop, sync: bool
) -> None:
    begun: list[str] = []

    async def first(state: Desk) -> Desk:
        begun.append("first")
        return {"team": str((await model(provider).ainvoke("one")).text)}

    def second(state: Desk) -> Desk:
        return {"team": str(model(provider).invoke("two").text)}

    async def second_async(state: Desk) -> Desk:
        return {"team": str((await model(provider).ainvoke("two")).text)}

    graph = StateGraph(Desk).add_node("first", first).add_node("second", second if sync else second_async)
    graph.add_edge(START, "first").add_edge("first", "second")
    shop.gate.put_off = {0, 2, 3}
    with provided([text("fire")]) as provider:
        end = shop.ask(reviewer(graph.compile()))

    assert end.output["team"] == "fire"
    assert begun == ["first", "first"]
    assert len(provider.log) == 2
    assert shop.spent == of(provider)


def test_what_gates_are_to_know_of_models_is_handed_to_them(shop: Shop) -> None:
    limit, breaker, budget = Limit(rate="60/m"), Breaker(), Budget(usd=1)
    with provided([text('{"team": "fire"}')]) as provider:
        given = {"model_limits": [limit], "model_breaker": breaker, "budget": budget}
        shop.ask(reviewer(talk(provider), **given))

    (call,) = shop.gate.passed
    assert (call.limits, call.breaker, call.budget) == ((limit,), breaker, budget)
    with pytest.raises(DefinitionError, match="model_limits/1: its rate is limited twice"):
        reviewer(talk(provider), model_limits=[limit, limit])


def test_a_model_without_a_known_price_is_not_called(shop: Shop) -> None:
    with provided([text("fire")]) as provider:
        end = shop.ask(reviewer(talk(provider), price=None))

    assert end.state == RunState.FAILED
    assert "the price of openai:scripted is not known" in shop.failure
    assert provider.log == []


def test_a_known_model_has_its_known_price(shop: Shop) -> None:
    async def reply(state: Talk) -> Any:
        return {"messages": [await model(provider, model="gpt-5-mini").ainvoke(state["messages"])]}

    graph = StateGraph(Talk).add_node("reply", reply).add_edge(START, "reply").compile()
    with provided([text("hello", tokens=(1_000_000, 1_000_000))]) as provider:
        shop.ask(reviewer(graph, output=str, price=None))

    assert shop.spent == Usage(tokens=2_000_000, usd=2.25, model_calls=1)


def test_a_refusal_of_the_provider_ends_for_good_and_tells_no_credential(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", SECRET)
    with provided([refuse(401, f"bad key {SECRET}")]) as provider:
        shop.ask(reviewer(talk(provider), retry=Retry(max=3)))

    assert len(provider.log) == 1
    assert "bad key <SCRIPTED_KEY>" in shop.failure
    ((kept,),) = shop.query("SELECT count(*) FROM attempts WHERE error::text LIKE %s", f"%{SECRET}%")
    assert kept == 0
    assert shop.gate.ended == ["Permanent"]


def test_a_failure_that_may_pass_is_tried_again_from_the_start(shop: Shop) -> None:
    script = [[refuse(500), text('{"team": "fire"}')]]
    with provided(script) as provider:
        end = shop.ask(reviewer(talk(provider), retry=Retry(max=1, base=0.01)))

    assert end.output["team"] == "fire"
    assert shop.spent.model_calls == 1
    first, second = shop.gate.passed
    assert first.idempotency_key != second.idempotency_key


def test_a_graph_that_takes_too_long_is_cancelled(shop: Shop) -> None:
    over = threading.Event()

    async def never(state: Desk) -> Desk:
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        return state

    graph = StateGraph(Desk).add_node("never", never).add_edge(START, "never").compile()
    shop.ask(reviewer(graph, timeout=0.2))

    assert "longer than 0.2 s" in shop.failure
    assert over.is_set()


def test_a_call_under_way_is_told_to_its_gate_when_time_is_up(shop: Shop) -> None:
    with provided([text("late", delay=30)]) as provider:
        shop.ask(reviewer(talk(provider), timeout=0.5))

    assert "longer than 0.5 s" in shop.failure
    eventually(lambda: shop.gate.ended == ["CancelledError"] or pytest.fail(str(shop.gate.ended)))


def test_a_structured_response_is_the_output_and_hooks_map_what_does_not_fit(shop: Shop) -> None:
    class Judged(Talk, total=False):
        structured_response: Any

    async def judge(state: Judged) -> Any:
        llm = model(provider).with_structured_output(Verdict)
        return {"structured_response": await llm.ainvoke(state["messages"])}

    graph = StateGraph(Judged).add_node("judge", judge).add_edge(START, "judge").compile()
    with provided([answer({"team": "fire"})]) as provider:
        assert shop.ask(reviewer(graph)).output == {"team": "fire", "urgent": False}

    with provided([answer({"team": "fire"})]) as provider:
        agent = reviewer(
            graph,
            input=int,
            output=str,
            prepare=lambda ctx, number: {"messages": [("user", f"ticket {number} of {ctx.tenant}")]},
            result=lambda state: state["structured_response"].team,
        )
        assert shop.ask(agent, 7).output == "fire"
    assert "ticket 7 of default" in provider.log[0].said


def test_a_graph_with_a_checkpointer_begins_each_attempt_anew(shop: Shop) -> None:
    async def count(state: Talk) -> Any:
        if len(seen) == 0:
            seen.append(len(state["messages"]))
            raise ValueError("once")
        seen.append(len(state["messages"]))
        return {"messages": ["hello"]}

    seen: list[int] = []
    graph = StateGraph(Talk).add_node("count", count).add_edge(START, "count")
    agent = reviewer(graph.compile(checkpointer=InMemorySaver()), output=str, retry=Retry(max=1, base=0.01))

    assert shop.ask(agent).output == "hello"
    assert seen == [1, 1]


def test_a_graph_that_interrupts_itself_fails_for_good(shop: Shop) -> None:
    async def ask(state: Desk) -> Desk:
        return {"team": interrupt("which team?")}

    graph = StateGraph(Desk).add_node("ask", ask).add_edge(START, "ask")
    shop.ask(reviewer(graph.compile(checkpointer=InMemorySaver()), retry=Retry(max=3)))

    assert "ctx.ask_human" in shop.failure


def test_what_is_no_compiled_graph_is_refused() -> None:
    graph = StateGraph(Desk).add_node("a", lambda state: state).add_edge(START, "a").add_edge("a", END)
    with pytest.raises(DefinitionError, match=r"give graph.compile\(\)"):
        reviewer(graph)
    with pytest.raises(DefinitionError, match="not str"):
        reviewer("graph")


def test_a_stream_is_in_the_events_of_the_run(shop: Shop) -> None:
    with provided([text('{"team": "fire", "urgent": true}')]) as provider:
        end = shop.ask(reviewer(talk(provider), stream=True))

    assert end.output["urgent"]
    assert provider.log[0].stream
    assert shop.said == [{"node": "reply", "text": '{"team": "fire", "urgent": true}'}]
    assert shop.gate.ended == ["well"]


def test_an_agent_of_a_framework_is_given_what_fits_and_what_it_declares_of_the_state(shop: Shop) -> None:
    @agent
    async def fill(ctx: Context, ticket: Ticket) -> Ticket:
        for name in ("findings", "secret"):
            await ctx.state.set(name, name * 30)
        return ticket

    context = ContextBudget(60, [Truncate("input.text", 20), Truncate("state.findings", 10)])
    with provided([text('{"team": "fire"}')]) as provider:
        clerk = reviewer(talk(provider), context=context, state=["findings"])
        run = shop.start(fill, clerk, value={"text": "fire! " * 100})

    assert shop.end(run).output == {"team": "fire", "urgent": False}
    said = provider.log[0].said
    assert said.count("fire!") < 20
    assert "findingsfindings" in said
    assert "secret" not in said
    assert [one.data["field"] for one in shop.events(run) if one.kind is EventKind.STEP_CUT] == [
        "input.text",
        "state.findings",
    ]


def test_a_guard_masks_what_an_agent_of_a_framework_gives(shop: Shop) -> None:
    with provided([text('{"team": "ann@example.org"}')]) as provider:
        end = shop.ask(reviewer(talk(provider), guard=Guard(personal="mask")))

    assert end.output == {"team": "<email>", "urgent": False}


def test_a_fallback_answers_for_an_agent_of_a_framework_and_has_to_fit() -> None:
    with provided([]) as provider:
        clerk = reviewer(talk(provider), breaker=Breaker(), fallback=Verdict(team="desk"))
        assert clerk.stand_in == '{"team":"desk","urgent":false}'
        with pytest.raises(DefinitionError, match="does not fit the agent's output: team: Field required"):
            reviewer(talk(provider), breaker=Breaker(), fallback={})
        with pytest.raises(DefinitionError, match="guard: it is Guard"):
            reviewer(talk(provider), guard="mask")


def test_what_a_framework_is_given_at_most_is_looked_at_when_it_is_declared(shop: Shop) -> None:
    with provided([]) as provider, pytest.raises(DefinitionError) as caught:
        reviewer(talk(provider), context=ContextBudget(0, [Drop("input.text")]), state="findings")

    for reason in ("it is a whole number above 0", "does not fit without text", "it is a list of names"):
        assert reason in str(caught.value)
