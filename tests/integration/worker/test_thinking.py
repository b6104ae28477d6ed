"""Model agents against the scripted provider: in this process, and with real workers that are killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql
from pydantic import BaseModel

from orchestrator.store.schema import upgrade
from schemas import Price, RunState, Usage
from schemas.errors import DefinitionError
from schemas.events import EventKind
from tests.agents import thinking
from tests.architecture.house import ROOT
from tests.integration.worker.stack import Stack
from tests.integration.worker.test_asking import Desk
from tests.support import Databases, eventually
from workers import Agent, Retry, ToolCall, ToolError, ask_first, llm_agent
from workers.scripted import Asked, Reply, Script, ScriptedProvider, answer, call, refuse, text

PRICE = Price(input=1, output=10)
SECRET = "sk-scripted-0123456789"


class Question(BaseModel):
    about: str


class Report(BaseModel):
    lines: list[str]


@pytest.fixture
def desk(databases: Databases) -> Iterator[Desk]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Desk(url)
    yield made
    made.close()
    databases.drop(url)


def provided(script: Script) -> ScriptedProvider:
    return ScriptedProvider(script, price=PRICE)


def writer(provider: ScriptedProvider, **options: Any) -> Agent:
    """A model agent behind this provider."""
    given: dict[str, Any] = {
        "model": "openai:scripted",
        "input": Question,
        "output": Report,
        "instructions": "Write a report.",
        "base_url": provider.base_url,
        "price": PRICE,
        "retry": Retry(max=0),
    }
    return llm_agent("writer", **(given | options))


def ask(desk: Desk, agent: Agent, value: Any = None) -> UUID:
    """A run of this agent, which has ended."""
    run = desk.start(agent, value=value or {"about": "tides"})

    def ended() -> None:
        desk.work()
        desk.end(run)

    eventually(ended)
    return run


def spent(desk: Desk, run: UUID) -> Usage:
    """What all attempts of a run told that they consumed."""
    rows = desk.query("SELECT usage FROM attempts WHERE run_id = %s AND usage IS NOT NULL", run)
    total = Usage()
    for (usage,) in rows:
        total += Usage.model_validate(usage)
    return total


def told(provider: ScriptedProvider, turn: int) -> str:
    """What the model was shown when it was asked for its turn."""
    return next(asked.said for asked in provider.log if asked.turn == turn)


# --- what it takes and gives ------------------------------------------------------------------------------


def test_a_model_gets_typed_input_and_tools_and_gives_typed_output(desk: Desk) -> None:
    def search(query: str, most: int = 3) -> list[str]:
        """Look something up."""
        return [f"{query} {number}" for number in range(most)]

    script = [call("search", query="tides", most=2), answer({"lines": ["Twice a day."]})]
    with provided(script) as provider:
        run = ask(desk, writer(provider, tools=[search]))

    assert desk.end(run).output == {"lines": ["Twice a day."]}
    first, second = provider.log
    assert "Write a report." in first.said
    assert "tides" in first.said
    assert "search" in first.tools
    assert "tides 1" in second.said
    assert spent(desk, run).tokens == provider.input_tokens + provider.output_tokens
    assert spent(desk, run).usd == pytest.approx(provider.usd)
    assert spent(desk, run).model_calls == 2


def test_text_needs_no_schema_and_a_later_stage_hears_the_intent(desk: Desk) -> None:
    with provided([text("Twice a day.")]) as provider:
        first = writer(provider, output=str)
        second = llm_agent(
            "editor",
            model="openai:scripted",
            input=str,
            output=str,
            instructions="Edit.",
            base_url=provider.base_url,
            price=PRICE,
        )
        run = desk.start(first, second, value={"about": "tides"})

    assert desk.end(run).output == "Twice a day."
    assert "The original request" not in provider.log[0].said
    assert "The original request" in provider.log[1].said


def test_output_that_does_not_fit_goes_back_with_the_reason(desk: Desk) -> None:
    script = [answer({"lines": 7}), answer({"line": []}), answer({"lines": ["ok"]})]
    with provided(script) as provider:
        run = ask(desk, writer(provider))

    assert desk.end(run).output == {"lines": ["ok"]}
    assert "valid array" in told(provider, 1)
    assert "Field required" in told(provider, 2)


def test_a_model_that_never_fits_fails_for_good_after_so_many_corrections(desk: Desk) -> None:
    with provided(lambda asked: answer({"lines": asked.turn})) as provider:
        run = ask(desk, writer(provider, corrections=1, retry=Retry(max=3)))

    end = desk.end(run)
    assert (end.state, len(provider.log)) == (RunState.FAILED, 2)
    assert end.error is not None
    assert end.error.message == (
        "scripted gave no answer that fits after 1 correction: lines: Input should be a valid array"
    )
    assert spent(desk, run).model_calls == 2


def test_a_run_that_is_resumed_asks_a_model_again_that_gave_nothing_that_fits(desk: Desk) -> None:
    # Given a model that looked something up, and then never gave an answer
    looked: list[str] = []

    def look(at: str) -> str:
        looked.append(at)
        return f"seen {at}"

    def said(asked: Asked) -> Reply:
        if asked.turn == 0:
            return call("look", at="tides")
        return answer({"lines": ["ok"] if len(provider.log) > 6 else 7})

    with provided(said) as provider:
        run = ask(desk, writer(provider, tools=[look], corrections=1))
        assert (desk.end(run).state, len(provider.log)) == (RunState.FAILED, 3)

        # When it is resumed, then it goes on from what was looked up, and has as many tries again
        for asked in (5, 7):
            desk.messages += desk.engine.resume(run)
            desk.work()
            assert len(provider.log) == asked

    assert desk.end(run).output == {"lines": ["ok"]}
    assert looked == ["tides"]
    assert "seen tides" in provider.log[-1].said
    assert [event.kind for event in desk.events(run)].count(EventKind.STEP_FAILED) == 2


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (answer({"lines": ["a\0b"]}), "it holds a NUL character"),
        (answer({"lines": [], "share": float("nan")}), "it holds a number that is none"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_stored_goes_back_with_the_reason(
    desk: Desk, turn: Reply, reason: str, stream: bool
) -> None:
    class Shared(Report):
        share: float = 0.0

    with provided([turn, answer({"lines": ["ab"]})]) as provider:
        run = ask(desk, writer(provider, output=Shared, stream=stream))

    assert desk.end(run).output == {"lines": ["ab"], "share": 0.0}
    assert reason in told(provider, 1)
    assert spent(desk, run).model_calls == 2


def test_what_cannot_be_stored_of_texts_and_results_is_replaced(desk: Desk) -> None:
    def look(at: str) -> str:
        if at == "moon":
            raise ToolError("no \ud800 there")
        return f"{at}: a\0b\ud800c"

    def count() -> float:
        return float("inf")

    script = [
        Reply("let\0me\ud800see", call("look", at="ti\0des").calls),
        call("look", at="moon"),
        call("count"),
        text("a \\u0000 is a NUL"),
    ]
    with provided(script) as provider:
        run = ask(desk, writer(provider, output=str, tools=[look, count], corrections=3))

    assert desk.end(run).output == "a \\u0000 is a NUL"
    assert "ti\ufffddes: a\ufffdb?c" in provider.log[1].used[0].told
    assert "no ? there" in provider.log[2].used[1].told
    assert "tool count returned what has no JSON form" in provider.log[3].used[2].told


def test_what_a_model_gets_wrong_with_tools_it_hears(desk: Desk) -> None:
    asked: list[str] = []

    def search(query: str) -> str:
        asked.append(query)
        if query == "moon":
            raise ToolError("nothing about the moon")
        return "found"

    script = [
        call("search", query=["no", "text"]),
        call("search", query="moon"),
        call("serach", query="tides"),
        Reply(calls=call("search", query="tides").calls, wrong="arguments"),
        call("search", query="tides"),
        answer({"lines": ["ok"]}),
    ]
    with provided(script) as provider:
        run = ask(desk, writer(provider, tools=[search], corrections=5))

    assert desk.end(run).output == {"lines": ["ok"]}
    assert asked == ["moon", "tides"]
    for turn, reason in [(1, "valid string"), (2, "nothing about the moon"), (3, "serach"), (5, "found")]:
        assert reason in told(provider, turn)


def test_arguments_of_tools_may_have_any_name(desk: Desk) -> None:
    def state(run: str, self: int, ctx: str = "c") -> str:
        return f"{run} {self} {ctx}"

    with provided([call("state", run="r", self=1), answer({"lines": []})]) as provider:
        run = ask(desk, writer(provider, tools=[state]))

    assert desk.end(run).state == RunState.COMPLETED
    assert "r 1 c" in told(provider, 1)


async def never() -> str:
    await asyncio.sleep(60)
    return ""


def test_a_tool_has_its_time(desk: Desk) -> None:
    with provided([call("never"), answer({"lines": []})]) as provider:
        run = ask(desk, writer(provider, tools=[never], tool_timeout=0.05))

    assert desk.end(run).state == RunState.COMPLETED
    assert "tool never took longer than 0.05 s" in told(provider, 1)


def test_a_model_that_goes_round_and_round_is_warned_of_and_stopped(desk: Desk) -> None:
    def search(query: str) -> str:
        return query

    with provided(lambda asked: call("search", query=f"{asked.turn}")) as provider:
        run = ask(desk, writer(provider, tools=[search], retry=Retry(max=3)))

    end = desk.end(run)
    assert end.state == RunState.FAILED
    assert "called 15 times without giving an answer" in str(end.error)
    assert len(provider.log) == 15
    (warning,) = [event.data for event in desk.events(run) if event.kind is EventKind.STEP_WARNING]
    assert warning["calls"] == 10


# --- what goes wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [refuse(429, retry_after=0.01), refuse(500), text("", wrong="body"), text("", wrong="cut")],
    ids=["limited", "broken", "malformed", "cut"],
)
def test_trouble_with_a_provider_passes(desk: Desk, trouble: Any) -> None:
    # As often as its client tries by itself, and once more
    with provided([[trouble, trouble, trouble, answer({"lines": ["ok"]})]]) as provider:
        run = ask(desk, writer(provider, retry=Retry(max=3, base=0.01)))

    assert desk.end(run).output == {"lines": ["ok"]}
    assert len(provider.log) == 4


def test_a_request_that_is_refused_is_not_repeated_and_no_credential_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a provider that repeats the key in its answer, as some do
    caplog.set_level("DEBUG")
    monkeypatch.setenv("SCRIPTED_ACCESS", SECRET)
    with provided([refuse(401, f"Incorrect API key provided: {SECRET}")]) as provider:
        run = ask(desk, writer(provider, key="SCRIPTED_ACCESS", retry=Retry(max=3)))

    end = desk.end(run)
    assert (end.state, len(provider.log)) == (RunState.FAILED, 1)
    assert "<SCRIPTED_ACCESS>" in str(end.error)
    stored = desk.query("SELECT string_agg(t::text, '') FROM (SELECT e::text FROM events e UNION ALL"
                        " SELECT s::text FROM steps s UNION ALL SELECT a::text FROM attempts a UNION ALL"
                        " SELECT r::text FROM runs r UNION ALL SELECT j::text FROM journal j) t")  # fmt: skip
    assert "Incorrect API key" in stored[0][0]
    assert SECRET not in stored[0][0]
    assert SECRET not in "".join(
        record.getMessage() for record in caplog.records if record.name[:6] == "worker"
    )


def test_the_key_of_another_provider_is_not_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with provided([answer({"lines": []})]) as provider:
        agent = writer(provider)
        missing = writer(provider, key="NOT_SET")
        assert desk.end(ask(desk, agent)).state == RunState.COMPLETED
        end = desk.end(ask(desk, missing))

    assert "agent writer: set NOT_SET in the environment of the worker" in str(end.error)
    assert len(provider.log) == 1
    assert not provider.log[0].holds(SECRET)


def test_a_key_that_is_not_there_is_named_with_its_agent_and_is_not_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    clerk = llm_agent(
        "clerk", model="openai:gpt-5-mini", input=Question, output=Report, instructions="", retry=Retry(max=3)
    )
    run = ask(desk, clerk)

    told = "set OPENAI_API_KEY in the environment of the worker: it is to hold the key of openai:gpt-5-mini"
    assert f"'agent clerk: {told}'" in str(desk.end(run).error)
    assert desk.query("SELECT count(*) FROM attempts WHERE run_id = %s", run) == [(1,)]


def test_a_server_that_cannot_be_reached_is_named_and_tried_again(desk: Desk) -> None:
    with provided([]) as provider:
        url, agent = provider.base_url, writer(provider, retry=Retry(max=1, base=0.01))
    run = ask(desk, agent)

    assert f"scripted cannot be reached at {url}: Connection refused" in str(desk.end(run).error)
    details = desk.query("SELECT error ->> 'detail' FROM attempts WHERE run_id = %s", run)
    assert details == [("",), ("",)], "no traceback of ours says more"


def test_a_model_of_which_nobody_knows_the_price_is_not_called(desk: Desk) -> None:
    with provided([]) as provider:
        run = ask(desk, writer(provider, model="openai:gpt-0-unheard-of", base_url=None, price=None))

    assert "the price of openai:gpt-0-unheard-of is not known" in str(desk.end(run).error)


def test_faults_are_named_at_once() -> None:
    def bare(query, /) -> str:  # type: ignore[no-untyped-def]
        return str(query)

    with pytest.raises(DefinitionError) as caught:
        llm_agent(
            "writer",
            model="gpt-5-mini",
            input=str,
            output=str,
            instructions="",
            base_url="http://me:secret@localhost/v1",
            tools=[bare, never, never],
            max_calls=0,
        )

    faults = str(caught.value)
    for reason in ("PROVIDER:NAME", "no place for credentials", "Price(input=0", "a model cannot give it",
                   "never is there twice", "must be positive"):  # fmt: skip
        assert reason in faults


def test_to_define_a_model_agent_loads_no_client() -> None:
    clients = "{'pydantic_ai', 'openai', 'genai_prices'}"
    code = f"import sys; import tests.agents.thinking; print({clients} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "set()\n"


# --- the journal ------------------------------------------------------------------------------------------


def test_a_retry_repeats_no_finished_call_and_pays_for_none_twice(desk: Desk) -> None:
    # Given two tools that the model calls at the same time, of which one breaks at once, while the other still works
    did: list[str] = []

    async def good(call: ToolCall) -> str:
        await asyncio.sleep(0.1)
        did.append(f"good {call.idempotency_key.rpartition(':')[2]}")
        return "good"

    async def bad(call: ToolCall) -> str:
        did.append(f"bad {call.idempotency_key.rpartition(':')[2]}")
        if len(did) < 4:
            raise OSError("the disk is full")
        return "bad"

    both = Reply(calls=(*call("good").calls, *call("bad").calls))
    with provided([call("good"), both, answer({"lines": ["ok"]})]) as provider:
        run = ask(desk, writer(provider, tools=[good, bad], retry=Retry(max=2, base=0.01)))

    # Then only that one is called again, under the same key
    assert desk.end(run).output == {"lines": ["ok"]}
    assert [asked.turn for asked in provider.log] == [0, 1, 2]
    assert did == ["good 2", "bad 7", "good 5", "bad 7"]
    # And what it cost is told once
    assert spent(desk, run).tokens == provider.input_tokens + provider.output_tokens
    assert spent(desk, run).model_calls == 3


@pytest.mark.parametrize("allowed", [True, False])
def test_a_person_lets_a_model_call_a_tool_or_not(desk: Desk, allowed: bool) -> None:
    # Given a model that calls two tools at the same time, of which one needs a person, and gets its arguments wrong
    did: list[str] = []

    def search() -> str:
        did.append("searched")
        return "found"

    def pay(amount: int) -> str:
        did.append(f"paid {amount}")
        return "paid"

    def calls(amount: Any) -> Reply:
        return Reply(calls=(*call("pay", amount=amount).calls, *call("search").calls))

    with provided([calls("much"), calls(90), answer({"lines": ["ok"]})]) as provider:
        agent = writer(provider, tools=[search, ask_first(pay, audience="ann")])
        run = desk.start(agent, value={"about": "tides"})

        # When it is asked for what fits
        assert desk.states(run) == {"0": "waiting"}
        (one,) = desk.people.approvals(run_id=run)
        assert one.key == "May writer call pay?"
        assert desk.people.approval(one.id).request["context"] == {"amount": 90}
        assert [asked.turn for asked in provider.log] == [0, 1]
        desk.answer(run, allowed)

    # Then it goes on from there: nothing is done, asked or paid for again
    assert desk.end(run).output == {"lines": ["ok"]}
    assert sorted(did) == (["paid 90"] if allowed else []) + ["searched", "searched"]
    assert [asked.turn for asked in provider.log] == [0, 1, 2]
    assert ("not allowed" in told(provider, 2)) is not allowed
    assert spent(desk, run).model_calls == 3
    assert spent(desk, run).tokens == provider.input_tokens + provider.output_tokens


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_killed_in_the_middle_of_the_third_tool_call(
    alone: Stack, tmp_path: Path, pool: str
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    script = [call("note", line=name) for name in "abc"] + [answer({"lines": ["ok"]})]
    with provided(script) as provider:
        env = {"BATON_APP": "tests.agents.thinking", "TEST_PROVIDER": provider.base_url,
               "TEST_LOG": str(log), "TEST_GATE": str(gate), "SCRIPTED_KEY": SECRET}  # fmt: skip
        # Given a worker that is killed while the third tool runs
        first = alone.worker("thinker", pool=pool, **env)
        run = alone.submit(thinking.thought, {"about": "tides"})
        eventually(lambda: len(log.read_text().splitlines()) == 3 if log.exists() else False, timeout=40)
        first.kill()
        now = alone.client.run(run.id)
        assert (now.totals.usage.model_calls, now.totals.attempts) == (3, 0)
        (step,) = [step for step in now.steps if step.path == "0"]
        assert step.totals.usage == now.totals.usage

        # When another one takes over
        gate.touch()
        alone.worker("thinker", pool=pool, **env)

        # Then it does what was in flight once more, under the same key, and nothing else
        assert run.result(60) == {"lines": ["ok"]}
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["line"] for line in lines] == ["a", "b", "c", "c"]
    assert lines[2]["key"] == lines[3]["key"]
    assert [asked.turn for asked in provider.log] == [0, 1, 2, 3]
    # And the run has paid for all four calls, those of the dead worker too
    rows = alone.query("SELECT usage FROM attempts WHERE run_id = %s ORDER BY attempt", run.id)
    assert rows[0] == (None,)
    assert rows[1][0]["model_calls"] == 4
    assert rows[1][0]["tokens"] == provider.input_tokens + provider.output_tokens
    assert alone.client.run(run.id).totals.usage == Usage.model_validate(rows[1][0])
    # And the credential, which the provider was given, stands nowhere
    assert provider.log[0].holds(SECRET)
    whole = sql.SQL("SELECT coalesce(string_agg(t::text, ''), '') FROM {} t")
    tables = [name for (name,) in alone.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    stored = {name: alone.query(whole.format(sql.Identifier(name)))[0][0] for name in tables}
    assert "final_result" in stored["journal"]
    assert [name for name, text in stored.items() if SECRET in text] == []
    assert all(SECRET not in file.read_text(errors="replace") for file in tmp_path.glob("*.log"))
