"""What reaches agents that are no model agents: as much of their input as they may be given, and of shared state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from orchestrator.cli.app import app
from orchestrator.loading import load
from orchestrator.store.schema import upgrade
from schemas.errors import DefinitionError
from schemas.events import EventKind
from tests.agents import briefing
from tests.integration.worker.stack import Stack
from tests.integration.worker.test_asking import Desk, attempts
from tests.integration.worker.test_context import LONG, cuts
from tests.integration.worker.test_thinking import provided, writer
from tests.support import Databases
from workers import (
    AgentError,
    Batch,
    Context,
    ContextBudget,
    Drop,
    Retry,
    Summarise,
    Truncate,
    agent,
    ask_first,
    llm_agent,
)
from workers.cuts.told import tokens_of
from workers.scripted import answer, call


class Letter(BaseModel):
    about: str
    body: str = ""
    notes: list[str] = []
    sent: date = Field(default=date(2026, 1, 2), alias="sentOn")


class Strict(BaseModel):
    body: str = Field(min_length=300)


@pytest.fixture(params=["threads", "processes"])
def both(databases: Databases, request: pytest.FixtureRequest) -> Iterator[Desk]:
    yield from made(databases, forked=request.param == "processes")


@pytest.fixture
def desk(databases: Databases) -> Iterator[Desk]:
    yield from made(databases)


def made(databases: Databases, *, forked: bool = False) -> Iterator[Desk]:
    url = databases.create(databases.template("migrated", upgrade))
    desk = Desk(url, forked=forked)
    yield desk
    desk.close()
    databases.drop(url)


def error(desk: Desk, run: UUID) -> str:
    return str(desk.end(run).error)


# --- the input --------------------------------------------------------------------------------------------


def test_an_input_is_cut_before_the_function_is_called_and_keeps_its_type(desk: Desk) -> None:
    seen: list[Letter] = []
    policy = [Drop("input.body"), Truncate("input.notes", 50)]

    @agent(context=ContextBudget(100, policy))
    async def reader(value: Letter) -> str:
        seen.append(value)
        return value.about

    value = {"about": "tides", "body": LONG, "notes": [LONG[:100]] * 40, "sentOn": "2026-05-06"}
    run = desk.start(reader, value=value)

    assert desk.end(run).output == "tides"
    (letter,) = seen
    assert (letter.body, letter.notes, letter.sent) == ("", [LONG[:100]], date(2026, 5, 6))
    assert cuts(desk, run) == [
        ("input.body", "dropped", 500, 0),
        ("input.notes", "truncated", tokens_of(value["notes"]), 26),
    ]


def test_what_fits_is_given_as_it_came_and_nothing_is_kept_for_it(desk: Desk) -> None:
    @agent(context=ContextBudget(1_000, [Drop("input.body")]))
    async def reader(value: Letter) -> str:
        return value.body

    run = desk.start(reader, value={"about": "tides", "body": LONG})

    assert desk.end(run).output == LONG
    assert cuts(desk, run) == []
    assert desk.query("SELECT count(*) FROM journal WHERE run_id = %s", run) == [(0,)]


def test_what_does_not_fit_fails_for_good_and_the_function_is_not_called(desk: Desk) -> None:
    @agent(context=ContextBudget(100, [Drop("input.notes")]), retry=Retry(max=3))
    async def reader(value: Letter) -> str:
        raise AssertionError("it was called")

    run = desk.start(reader, value={"about": "tides", "body": LONG})

    assert "its context has room for 100" in error(desk, run)
    assert attempts(desk, run) == ["failed"]


def test_what_is_no_input_any_more_fails_for_good(desk: Desk) -> None:
    @agent(context=ContextBudget(50, [Truncate("input.body", 40)]), retry=Retry(max=3))
    async def reader(value: Strict) -> str:
        raise AssertionError("it was called")

    run = desk.start(reader, value={"body": LONG})

    assert "what was cut is no input of reader any more: body String should have" in error(desk, run)


def test_the_original_request_counts_where_it_is_seen(desk: Desk) -> None:
    @agent
    async def first(value: Letter) -> Letter:
        return Letter(about="moon")

    @agent(context=ContextBudget(100, [Truncate("intent.body", 50)]))
    async def second(ctx: Context, value: Letter) -> str:
        return str(ctx.intent["body"])

    run = desk.start(first, second, value={"about": "tides", "body": LONG})

    assert tokens_of(desk.end(run).output) == 50
    assert cuts(desk, run) == [("intent.body", "truncated", 500, 50)]


def test_an_intent_that_is_the_input_is_cut_with_it(desk: Desk) -> None:
    @agent(context=ContextBudget(100, [Drop("input.body")]))
    async def first(ctx: Context, value: Letter) -> str:
        return json.dumps(ctx.intent)

    run = desk.start(first, value={"about": "tides", "body": LONG})

    assert json.loads(str(desk.end(run).output))["body"] == ""


# --- summaries --------------------------------------------------------------------------------------------


def test_a_summary_for_a_sync_agent_is_made_once_and_told_once(both: Desk) -> None:
    made: list[str] = []

    @agent
    async def brief(ctx: Context, body: str) -> str:
        made.append(f"{ctx.agent} {ctx.intent}")
        return str(await ctx.once("brief", lambda: body[:9]))

    tries: list[str] = []

    @agent(context=ContextBudget(100, [Summarise("input.body", by=brief)]), retry=Retry(max=1, base=0.01))
    def reader(ctx: Context, value: Letter) -> str:
        tries.append(value.body)
        if len(tries) == 1:
            raise AgentError("not now")
        return f"{ctx.once('mine', lambda: value.body)} {ctx.agent}"

    run = both.start(reader, value={"about": "tides", "body": LONG})

    assert both.end(run).output == "0000 0001 reader"
    assert tries == ["0000 0001"] * 2
    assert made[0] == "brief None"
    assert cuts(both, run) == [("input.body", "summarised by brief", 500, 3)]
    names = [
        name for (name,) in both.query("SELECT name FROM journal WHERE run_id = %s ORDER BY position", run)
    ]
    assert names == ["once brief", "cut", "once mine"]


def test_an_agent_of_the_app_summarises_by_its_name(desk: Desk) -> None:
    did: list[int] = []

    @agent
    def brief(body: str) -> str:
        did.append(len(body))
        return body[:4]

    @agent(context=ContextBudget(100, [Summarise("input.body", by="brief")]), retry=Retry(max=1, base=0.01))
    async def reader(value: Letter) -> str:
        if len(did) == 1 and not tries:
            tries.append(1)
            raise AgentError("not now")
        return value.body

    tries: list[int] = []
    desk.agents["brief"] = brief
    run = desk.start(reader, value={"about": "tides", "body": LONG})

    assert (desk.end(run).output, did) == ("0000", [2000])


def test_a_name_that_nobody_bears_fails_for_good(desk: Desk) -> None:
    @agent(context=ContextBudget(100, [Summarise("input.body", by="brief")]), retry=Retry(max=3))
    def reader(value: Letter) -> str:
        return value.body

    run = desk.start(reader, value={"about": "tides", "body": LONG})

    assert "there is no agent 'brief' in this app" in error(desk, run)


def test_a_summariser_that_asks_sets_the_step_aside(both: Desk) -> None:
    @agent
    async def brief(ctx: Context, body: str) -> str:
        return str(await ctx.ask_human("What does it say?"))

    @agent(context=ContextBudget(100, [Summarise("input.body", by=brief)]))
    def reader(value: Letter) -> str:
        return value.body

    run = both.start(reader, value={"about": "tides", "body": LONG})
    both.answer(run, "Tides.")

    assert both.end(run).output == "Tides."


def test_an_input_is_cut_for_each_step_of_a_batch(desk: Desk) -> None:
    @agent(batch=Batch(size=2, within=0.01), context=ContextBudget(100, [Truncate("input.body", 10)]))
    async def reader(values: list[Letter]) -> list[int]:
        return [tokens_of(value.body) for value in values]

    run = desk.start(reader, value={"about": "tides", "body": LONG})

    assert desk.end(run).output == 10


def test_faults_of_a_plain_agents_context_are_named_at_once() -> None:
    policy = [
        Drop("input.about"),
        Drop("state.draft"),
        Drop("intent"),
        Truncate("input", 5),
        Summarise("input.notes", by="brief"),
        Drop("input.nots"),
    ]
    with pytest.raises(DefinitionError) as caught:

        @agent(context=ContextBudget(10, policy))
        def reader(value: Letter) -> str:
            return ""

    for reason in ("does not fit without about", "nothing of the state is shown", "it takes no Context",
                   "input is no text", "input.notes is a list", "no field 'nots'"):  # fmt: skip
        assert reason in str(caught.value)

    with pytest.raises(DefinitionError, match=r"it is ContextBudget\(tokens, policy\), not 100"):

        @agent(context=100)  # type: ignore[call-overload]
        def other(value: Letter) -> str:
            return ""


def test_the_app_says_who_summarises_in_vain(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "naming.py").write_text(
        "from workers import ContextBudget, Summarise, agent\n"
        "def budget(name): return ContextBudget(10, [Summarise('input', by=name)])\n"
        "@agent(context=budget('breef'))\n"
        "def one(value: str) -> str: return value\n"
        "@agent\n"
        "def brief(value: int) -> str: return ''\n"
        "@agent(context=budget('brief'))\n"
        "def two(value: str) -> str: return value\n"
        "@agent(context=budget('four'))\n"
        "def three(value: str) -> str: return value\n"
        "@agent(context=budget('three'))\n"
        "def four(value: str) -> str: return value\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DefinitionError) as caught:
        load("./naming.py")

    for reason in ("agent one: There is no agent 'breef'; did you mean 'brief'?",
                   "agent two: brief does not take a text",
                   "agent three: four summarises for it, and it for four"):  # fmt: skip
        assert reason in str(caught.value)


# --- shared state -----------------------------------------------------------------------------------------


@agent
async def fill(ctx: Context, value: str) -> str:
    for name in ("findings", "draft.a", "draft.b", "secret"):
        await ctx.state.set(name, f"{name}: {value}")
    await ctx.shared("ann").set("incidents", 3)
    await ctx.shared("ann").set("salary", 4)
    await ctx.session("ann").append("hello")
    return value


def test_an_agent_sees_what_it_declares_of_the_state(both: Desk) -> None:
    @agent(state=["findings", "draft.*", "shared:incidents", "session:a*"])
    def reader(ctx: Context, value: str) -> Any:
        ctx.state.merge("draft.c", 1, "add")
        ctx.scratch.set("mine", 1)
        return {
            "all": ctx.state.all(),
            "one": ctx.state.get("findings"),
            "shared": ctx.shared("ann").all(),
            "session": [one.message for one in ctx.session("ann").history()],
            "scratch": ctx.scratch.all(),
        }

    run = both.start(fill, reader, value="x")

    assert both.end(run).output == {
        "all": {"findings": "findings: x", "draft.a": "draft.a: x", "draft.b": "draft.b: x", "draft.c": 1},
        "one": "findings: x",
        "shared": {"incidents": 3},
        "session": ["hello"],
        "scratch": {"mine": 1},
    }


REFUSED = {
    "ctx.state.get('secret')": "reader wants 'secret' of ctx.state, and declares state=['findings']: name",
    "ctx.state.read('secret')": "'secret' of ctx.state",
    "ctx.state.set('secret', 1)": "'secret' of ctx.state",
    "ctx.state.merge('findings2', 1, 'add')": "'findings2' of ctx.state",
    "ctx.shared('ann').get('findings')": "name 'shared:findings' there",
    "ctx.session('ann').append(1)": "name 'session:ann' there",
    "ctx.session('ann').history()": "'ann' of ctx.session",
}


@pytest.mark.parametrize("call", REFUSED)
def test_any_other_name_is_refused_for_good(desk: Desk, call: str) -> None:
    @agent(state=["findings"], retry=Retry(max=3))
    async def reader(ctx: Context, value: str) -> Any:
        return await eval(call)  # noqa: S307  the cases above

    run = desk.start(reader, value="x")

    assert REFUSED[call] in error(desk, run)
    assert attempts(desk, run) == ["failed"]


def test_an_empty_declaration_is_nothing_and_none_is_all() -> None:
    @agent(state=[])
    def nothing(ctx: Context, value: str) -> str:
        return value

    @agent
    def everything(ctx: Context, value: str) -> str:
        return value

    assert nothing.spec.model_dump()["state"] == ()
    assert "state" not in everything.spec.model_dump()
    with pytest.raises(DefinitionError, match="it is a list of names"):

        @agent(state="findings")
        def reader(value: str) -> str:
            return value


def test_a_summariser_sees_what_it_declares_itself(desk: Desk) -> None:
    @agent(state=["draft.a"])
    async def brief(ctx: Context, body: str) -> str:
        return str(await ctx.state.get("draft.a"))

    @agent(context=ContextBudget(50, [Summarise("input", by=brief)]), state=["findings"])
    async def reader(ctx: Context, value: str) -> Any:
        return [value, await ctx.state.all()]

    @agent
    async def grow(value: str) -> str:
        return LONG

    run = desk.start(fill, grow, reader, value="x")

    assert desk.end(run).output == ["draft.a: x", {"findings": "findings: x"}]


def test_the_plan_of_a_workflow_says_who_sees_what(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seeing.py").write_text(
        "from orchestrator import workflow\nfrom workers import agent\n"
        "@agent(state=['findings', 'draft.*'])\ndef one(value: str) -> str: return value\n"
        "@agent\ndef two(value: str) -> str: return value\n"
        "line = workflow('line', one >> two)\n"
    )
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["plan", "line", "--app", "./seeing.py"]).stdout
    facts = json.loads(CliRunner().invoke(app, ["plan", "line", "--app", "./seeing.py", "--json"]).stdout)

    assert "state:   one sees findings, draft.*\n" in told
    assert facts["state"] == {"one": ["findings", "draft.*"]}


# --- models -----------------------------------------------------------------------------------------------


def said(provider: Any) -> str:
    return str(provider.log[0].body["messages"][-1]["content"])


def test_a_model_is_shown_what_its_agent_declares_and_no_more(desk: Desk) -> None:
    with provided([answer({"lines": []})]) as provider:
        run = desk.start(fill, writer(provider, input=str, state=["findings", "draft.*"]), value="x")

    shown = {"draft.a": "draft.a: x", "draft.b": "draft.b: x", "findings": "findings: x"}
    assert desk.end(run).error is None
    assert said(provider) == f"x\n\nWhat the agents of this run share: {json.dumps(shown)}"


def test_a_model_whose_agent_declares_nothing_is_shown_nothing(desk: Desk) -> None:
    with provided([answer({"lines": []})]) as provider:
        desk.start(fill, writer(provider, input=str), value="x")

    assert said(provider) == "x"


def test_what_a_model_is_shown_of_the_state_is_cut_by_its_policy(desk: Desk) -> None:
    @agent
    async def fills(ctx: Context, value: str) -> str:
        for name in ("notes", "draft.a", "draft.b"):
            await ctx.state.set(name, LONG)
        return value

    context = ContextBudget(200, [Drop("state.draft.*"), Truncate("state.notes", 50)])
    with provided([answer({"lines": []})]) as provider:
        run = desk.start(fills, writer(provider, input=str, state=["*"], context=context), value="x")

    assert '"notes": "0000 0001' in said(provider)
    assert "draft" not in said(provider)
    assert cuts(desk, run) == [
        ("state.draft.a", "dropped", 500, 0),
        ("state.draft.b", "dropped", 500, 0),
        ("state.notes", "truncated", 500, 50),
    ]


def test_a_retry_tells_the_model_the_same_state(desk: Desk) -> None:
    @agent
    async def count(ctx: Context, value: str) -> str:
        await ctx.state.merge("count", 1, "add")
        return value

    def look(page: int) -> str:
        return "nothing"

    with provided([call("look", page=1), answer({"lines": ["ok"]})]) as provider:
        told = writer(provider, input=str, state=["count"], tools=[ask_first(look)])
        run = desk.start(count, told, value="x")
        desk.query("UPDATE states SET value = '9' WHERE name = 'count' RETURNING 1")
        desk.answer(run, True)

    assert desk.end(run).output == {"lines": ["ok"]}
    assert ['{"count": 1}' in one.body["messages"][1]["content"] for one in provider.log] == [True, True]


def test_faults_of_what_a_model_agent_declares_are_named() -> None:
    with pytest.raises(DefinitionError) as caught:
        llm_agent("reader", model="openai:gpt-5", input=str, output=str, instructions="", state=["session:*"],
                  context=ContextBudget(5, [Drop("state"), Truncate("state", 5)]))  # fmt: skip

    assert 'of a session it is told by memory="session"' in str(caught.value)


def test_what_was_cut_is_told_in_one_event_each(desk: Desk) -> None:
    @agent(context=ContextBudget(100, [Truncate("input", 50)]))
    async def reader(ctx: Context, value: str) -> str:
        return str(await ctx.ask_human("Really?"))

    run = desk.start(reader, value=LONG)
    desk.answer(run, "yes")

    (event,) = [one for one in desk.events(run) if one.kind is EventKind.STEP_CUT]
    assert event.data["message"] == "input was truncated: about 500 tokens, now 50"


# --- real workers -----------------------------------------------------------------------------------------


def test_a_forked_worker_finds_the_agent_that_summarises_in_its_app(alone: Stack) -> None:
    alone.worker("briefed", pool="prefork", concurrency=1, BATON_APP="tests.agents.briefing")

    run = alone.submit(briefing.briefing, LONG)

    assert run.result(40) == "briefed was given 0000 "
    assert "step.cut" in alone.kinds(run, "0")
