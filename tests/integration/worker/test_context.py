"""What a model agent is told at most."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from orchestrator.store.schema import upgrade
from schemas.errors import DefinitionError
from schemas.events import EventKind
from tests.integration.engine.bench import Bench
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import PRICE, provided, spent, told, writer
from tests.support import Databases
from workers import Context, ContextBudget, Drop, Retry, Summarise, Truncate, agent, llm_agent
from workers.cuts.told import MARK, shortened, tokens_of
from workers.scripted import Asked, ScriptedProvider, answer, call, refuse, text

LONG = "".join(f"{number:04} " for number in range(400))
"""About 500 tokens."""


class Letter(BaseModel):
    about: str
    body: str = ""
    notes: list[str] = []


@pytest.fixture
def desk(databases: Databases) -> Iterator[Desk]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Desk(url)
    yield made
    made.close()
    databases.drop(url)


def cuts(desk: Bench, run: UUID) -> list[tuple[str, str, int, int]]:
    found = [event.data for event in desk.events(run) if event.kind is EventKind.STEP_CUT]
    return [(one["field"], one["how"], one["before"], one["after"]) for one in found]


def reader(provider: ScriptedProvider, *policy: Any, tokens: int = 300, **options: Any) -> Any:
    return writer(provider, input=Letter, context=ContextBudget(tokens, policy), **options)


def asked(provider: ScriptedProvider) -> Any:
    """The input that the model was shown first."""
    return json.loads(provider.log[0].body["messages"][-1]["content"])


# --- the input --------------------------------------------------------------------------------------------


def test_what_fits_is_not_cut(desk: Desk) -> None:
    with provided([answer({"lines": []})]) as provider:
        run = desk.start(reader(provider, Drop("input.body")), value={"about": "tides", "body": "short"})

    assert asked(provider)["body"] == "short"
    assert cuts(desk, run) == []


def test_fields_are_cut_one_after_the_other_until_it_fits(desk: Desk) -> None:
    value = {"about": "tides", "body": LONG, "notes": [LONG[:100]] * 40}
    policy = (Drop("input.notes"), Truncate("input.body", 100), Drop("input.about"))
    with provided([answer({"lines": []})]) as provider:
        run = desk.start(reader(provider, *policy), value=value)

    shown = asked(provider)
    assert shown["about"] == "tides"
    assert "notes" not in shown
    assert shown["body"].startswith("0000 0001")
    assert shown["body"].endswith(MARK)
    assert tokens_of(shown["body"]) == 100
    assert cuts(desk, run) == [
        ("input.notes", "dropped", tokens_of(value["notes"]), 0),
        ("input.body", "truncated", 500, 100),
    ]


def test_what_still_does_not_fit_fails_for_good_and_nothing_is_asked(desk: Desk) -> None:
    with provided([]) as provider:
        agent = reader(provider, Drop("input.notes"), retry=Retry(max=3))
        run = desk.start(agent, value={"about": "tides", "body": LONG})

    assert "its context has room for 300" in str(desk.end(run).error)
    assert provider.log == []


def test_the_original_request_can_be_cut_too(desk: Desk) -> None:
    @agent(name="first")
    def first(value: Letter) -> Letter:
        return Letter(about="moon")

    with provided([answer({"lines": []})]) as provider:
        run = desk.start(first, reader(provider, Truncate("intent.body", 50)),
                         value={"about": "tides", "body": LONG})  # fmt: skip

    assert '"about": "moon"' in provider.log[0].body["messages"][-1]["content"]
    assert "tides" in provider.log[0].said
    assert cuts(desk, run) == [("intent.body", "truncated", 500, 50)]


def test_another_model_agent_summarises_and_a_retry_does_not_ask_it_again(desk: Desk) -> None:
    # Given a model that breaks down once, after a summary was made for it
    def said(asked: Asked) -> Any:
        if asked.model == "small":
            return text("In short: tides.")
        return answer({"lines": ["ok"]}) if asked.again else refuse(500, "hm", retry_after=0.01)

    with provided(said) as provider:
        brief = llm_agent("brief", model="openai:small", input=str, output=str, base_url=provider.base_url,
                          price=PRICE, instructions="Say it in short.")  # fmt: skip
        agent = reader(provider, Summarise("input.body", by=brief), retry=Retry(max=1, base=0.01))
        run = desk.start(agent, value={"about": "tides", "body": LONG})

    assert desk.end(run).output == {"lines": ["ok"]}
    assert [one.model for one in provider.log] == ["small", "scripted", "scripted"]
    assert "The original request" not in provider.log[0].said
    assert json.loads(provider.log[1].body["messages"][-1]["content"])["body"] == "In short: tides."
    assert cuts(desk, run) == [("input.body", "summarised by brief", 500, 4)]
    assert spent(desk, run).model_calls == 2


def test_a_function_summarises_once(desk: Desk) -> None:
    did: list[int] = []

    @agent
    async def ends(body: str) -> str:
        did.append(len(body))
        return body[-30:]

    with provided([[refuse(503), refuse(503), refuse(503), answer({"lines": []})]]) as provider:
        told = reader(provider, Summarise("input.body", by=ends, tokens=5), retry=Retry(max=1, base=0.01))
        run = desk.start(told, value={"about": "tides", "body": LONG})

    assert asked(provider)["body"] == shortened(LONG[-30:], 5)
    assert (did, len(provider.log)) == ([2000], 4)
    assert cuts(desk, run) == [("input.body", "summarised by ends", 500, 5)]


# --- the conversation -------------------------------------------------------------------------------------


def test_the_oldest_results_of_tools_are_cut_first_and_told_once(desk: Desk) -> None:
    def look(page: int) -> str:
        return f"page {page} {LONG[:1000]} end of {page}"

    script = [call("look", page=number) for number in range(3)] + [answer({"lines": ["ok"]})]
    with provided(script) as provider:
        run = desk.start(reader(provider, tokens=600, tools=[look]), value={"about": "tides"})

    assert desk.end(run).output == {"lines": ["ok"]}
    assert "end of 1" in told(provider, 2)
    last = told(provider, 3)
    assert ("page 0" in last, "end of 0" in last) == (True, False)
    assert "end of 2" in last
    assert last.count("<data-") == last.count("</data-") == 4  # once in its instructions
    assert all(tokens_of(one.said) < 1000 for one in provider.log)
    assert {(field, how) for field, how, _, _ in cuts(desk, run)} == {("tool look", "truncated")}
    assert len(cuts(desk, run)) <= 3


def test_a_conversation_that_cannot_be_cut_to_fit_fails_for_good(desk: Desk) -> None:
    def look(page: str) -> str:
        return ""

    with provided(lambda asked: call("look", page=LONG)) as provider:
        run = desk.start(reader(provider, tools=[look]), value={"about": "tides"})

    assert "its context has room for 300" in str(desk.end(run).error)
    assert len(provider.log) == 1


# --- what is refused --------------------------------------------------------------------------------------


def test_faults_of_a_context_are_named_at_once() -> None:
    @agent
    def blocking(ctx: Context, value: str) -> str:
        return value

    @agent
    async def numbers(value: int) -> str:
        return str(value)

    policy = [
        Drop("body"),
        Drop("input"),
        Truncate("input.bdy", 0),
        Summarise("input.body", by=5),  # type: ignore[arg-type]
        Summarise("input.body", by=blocking),
        Summarise("input.body", by=numbers),
    ]
    with pytest.raises(DefinitionError) as caught:
        llm_agent("reader", model="openai:gpt-5", input=Letter, output=str, instructions="",
                  context=ContextBudget(0, policy))  # fmt: skip

    for reason in ("'body' is no field", "nothing to do", "no field 'bdy'", "tokens are a whole number above 0",
                   "tokens: it is a whole number above 0", "not 5", "takes a context in a thread",
                   "numbers does not take a text"):  # fmt: skip
        assert reason in str(caught.value)


@pytest.mark.parametrize("tokens", [3, 10, 40])
def test_what_is_shortened_is_as_long_as_it_may_be(tokens: int) -> None:
    numbers = list(range(1000))
    assert shortened([1, 2], tokens) == [1, 2]
    assert tokens_of(shortened(LONG, tokens)) == tokens
    assert shortened(LONG, tokens).endswith(MARK)
    assert tokens_of(shortened({"a": LONG}, tokens)) == tokens
    assert shortened(numbers, 40)[:3] == [0, 1, 2]
    assert 20 < tokens_of(shortened(numbers, 40)) <= 40
