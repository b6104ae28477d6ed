"""Calls that were wanted and not made: they stand in the log with the reason, once, and without secrets."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.tool_calls.log import CallLog
from tests.integration.tools.test_calling import QUICK, end, log, plain
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import ask, provided, writer
from tests.integration.worker.test_thinking import desk as desk
from workers import Context, ToolError, ask_first
from workers.scripted import Reply, answer, call
from workers.scripted.script import Call

KEY = "opensesame-0123456789"


def test_what_a_model_may_not_call_is_written_down_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAVE_KEY", KEY)
    tries: list[str] = []

    def look(query: str) -> str:
        return query

    def pay(amount: int) -> int:
        return amount

    def store(text: str) -> str:
        tries.append(text)
        if len(tries) == 1:
            raise OSError("the disk is full")
        return text

    script = [
        call("open_cave", word=KEY),
        Reply(calls=(Call("look", {"query": "x"}),), wrong="arguments"),
        call("look", query=7),
        call("pay", amount=5),
        call("store", text="done"),  # fails, so that the step runs again from its journal
        answer({"lines": ["ok"]}),
    ]
    with provided(script) as provider:
        run = desk.start(
            writer(provider, tools=[look, ask_first(pay), store], retry=QUICK), value={"about": "x"}
        )
        desk.answer(run, False)
        assert end(desk, run) == {"lines": ["ok"]}

    assert len(tries) == 2
    found = [(one.tool, one.attempt, one.error) for one in log(desk, run)]
    made_up, unreadable, wrong, denied, broken, done = found
    assert made_up == ("open_cave", 1, "refused: there is no such tool for this agent")
    assert unreadable[:2] == ("look", 1)
    assert str(unreadable[2]).startswith("refused: its arguments are no JSON: ")
    assert wrong[:2] == ("look", 1)
    assert "query: Input should be a valid string" in str(wrong[2])
    assert denied == ("pay", 2, "refused: this call is not allowed; do not repeat it")
    assert broken == ("store", 2, "the disk is full")
    assert done == ("store", 3, None)
    refused = log(desk, run)[:4]
    assert [one.arguments for one in refused] == [
        {"word": "<CAVE_KEY>"},
        refused[1].arguments,
        {"query": 7},
        {"amount": 5},
    ]
    assert len({one.place for one in refused}) == 4
    assert all(one.result is None and one.seconds == 0 for one in refused)
    assert desk.query("SELECT count(*) FROM journal WHERE value::text LIKE %s", f"%{KEY}%") == [(0,)]


def test_a_call_of_the_same_id_as_one_that_was_made_up_has_a_place_of_its_own(desk: Desk) -> None:
    def look(query: str) -> str:
        return query

    both = Reply(calls=(Call("nothing", {}), Call("look", {"query": "tides"})))
    with provided([call("nothing"), both, answer({"lines": ["ok"]})]) as provider:
        run = ask(desk, writer(provider, tools=[look]))

    assert desk.end(run).output == {"lines": ["ok"]}
    assert [(one.tool, one.result) for one in log(desk, run)] == [
        ("nothing", None),
        ("nothing", None),
        ("look", "tides"),
    ]


def test_what_a_plain_agent_gets_wrong_is_written_down_in_each_attempt(desk: Desk) -> None:
    def pay(amount: int) -> int:
        return amount

    async def act(ctx: Context) -> Any:
        try:
            return await ctx.use(pay, amount="much" if ctx.attempt < 3 else 5)
        except ToolError as error:
            raise OSError("again") from error

    run = desk.start(plain(act))

    assert end(desk, run) == 5, "a refusal of an earlier attempt is not kept against a better one"
    found = CallLog(desk.pool).of_run(run)
    assert [(one.attempt, one.arguments, (one.error or "")[:8]) for one in found] == [
        (1, {"amount": "much"}, "refused:"),
        (2, {"amount": "much"}, "refused:"),
        (3, {"amount": 5}, ""),
    ]
