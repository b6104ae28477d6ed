"""What a model says while it speaks, as events of its run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import workflow
from orchestrator.engine import Pointer
from orchestrator.engine.deltas import Delta
from orchestrator.store.schema import upgrade
from schemas import Price, RunState
from schemas.events import EventKind
from tests.integration.engine.bench import Bench, named
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import ask, provided, spent, writer
from tests.support import Databases
from workers import AgentError, Context, Model, Retry, agent, telling
from workers.attempts import Attempt
from workers.scripted import Asked, Reply, answer, call, refuse, text
from workers.telling import TRIES, Telling

LONG = "".join(f"word{number:04} " for number in range(200)).translate(
    str.maketrans("0123456789", "abcdefghij")
)
"""Words without digits: these are held back until it is clear that they belong to no number that is masked."""


@pytest.fixture
def desk(databases: Databases) -> Iterator[Desk]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Desk(url)
    yield made
    made.close()
    databases.drop(url)


def deltas(desk: Bench, run: UUID) -> list[dict[str, Any]]:
    return [event.data for event in desk.events(run) if event.kind is EventKind.STEP_DELTA]


def said(desk: Bench, run: UUID, **about: Any) -> str:
    """All that was said about this, in order."""
    found = [one for one in deltas(desk, run) if about.items() <= one.items()]
    return "".join(one["text"] for one in found)


def test_it_is_heard_while_it_is_said(desk: Desk) -> None:
    # Given a worker that has heard a model before, for it loads much the first time
    with provided([text("Yes.")]) as provider:
        ask(desk, writer(provider, output=str, stream=True))

    # When one takes two seconds for its answer
    with provided([text(LONG[:480], pace=0.05)]) as provider:
        run = ask(desk, writer(provider, output=str, stream=True))

    # Then its first words were events while it was at work
    heard = [event.at for event in desk.events(run) if event.kind is EventKind.STEP_DELTA]
    (done,) = [event.at for event in desk.events(run) if event.kind is EventKind.STEP_DONE]
    assert (done - heard[0]).total_seconds() > 0.5

    # And in the end all of them are, in far fewer events than there were pieces
    assert desk.end(run).output == LONG[:480]
    assert said(desk, run) == LONG[:480]
    assert len(deltas(desk, run)) < 30
    (first, *_) = deltas(desk, run)
    assert {name: value for name, value in first.items() if name != "text"} == {
        "attempt": 1, "call": 0, "try": 1, "model": "openai:scripted", "part": 0, "kind": "text"
    }  # fmt: skip


def test_many_tokens_are_few_events(desk: Desk) -> None:
    with provided([text(LONG)]) as provider:
        run = ask(desk, writer(provider, output=str, stream=True))

    assert said(desk, run) == LONG
    assert len(deltas(desk, run)) <= 3
    assert spent(desk, run).tokens == provider.input_tokens + provider.output_tokens


def test_tools_and_structured_output_are_heard_too(desk: Desk) -> None:
    def search(query: str) -> str:
        return f"{query}!"

    begin = Reply(text="Let me look.", calls=call("search", query="tides").calls)
    with provided([begin, answer({"lines": ["Twice a day."]})]) as provider:
        run = ask(desk, writer(provider, tools=[search], stream=True))

    assert desk.end(run).output == {"lines": ["Twice a day."]}
    assert said(desk, run, kind="text") == "Let me look."
    assert said(desk, run, kind="tool", tool="search") == '{"query": "tides"}'
    assert said(desk, run, kind="output", call=3) == '{"lines": ["Twice a day."]}'
    assert all(asked.stream for asked in provider.log)


def test_a_retry_does_not_say_again_what_was_finished(desk: Desk) -> None:
    did: list[str] = []

    def look() -> str:
        did.append("look")
        if len(did) == 1:
            raise OSError("the disk is full")
        return "seen"

    begin = Reply(text="Let me look.", calls=call("look").calls)
    with provided([begin, answer({"lines": ["ok"]})]) as provider:
        agent = writer(provider, tools=[look], stream=True, retry=Retry(max=1, base=0.01))
        run = ask(desk, agent)

    assert desk.end(run).state == RunState.COMPLETED
    assert said(desk, run, kind="text") == "Let me look."
    assert said(desk, run, attempt=2, kind="output") == '{"lines": ["ok"]}'


def test_what_breaks_off_is_said_again_as_another_try(desk: Desk) -> None:
    with provided([[text(LONG[:400], wrong="cut"), text(LONG[:400])]]) as provider:
        run = ask(desk, writer(provider, output=str, stream=True))

    assert desk.end(run).output == LONG[:400]
    assert said(desk, run, **{"try": 2}) == LONG[:400]
    assert LONG.startswith(said(desk, run, **{"try": 1}))
    assert spent(desk, run).model_calls == 2  # of the first one nobody saw the end: it counts


@pytest.mark.parametrize("trouble", [refuse(429, retry_after=0.01), refuse(500)], ids=["limited", "broken"])
def test_trouble_with_a_stream_passes(desk: Desk, trouble: Any) -> None:
    with provided([[trouble, answer({"lines": ["ok"]})]]) as provider:
        run = ask(desk, writer(provider, stream=True))

    assert desk.end(run).output == {"lines": ["ok"]}


def test_a_stand_in_is_heard_by_its_name(desk: Desk) -> None:
    def script(asked: Asked) -> Any:
        return text("no", wrong="cut") if asked.model == "scripted" else text("yes")

    with provided(script) as provider:
        other = Model("openai:other", provider.base_url, price=Price(input=0, output=0))
        run = ask(desk, writer(provider, output=str, stream=True, fallbacks=[other]))

    assert desk.end(run).output == "yes"
    assert said(desk, run, model="openai:other") == "yes"


def test_a_secret_that_comes_in_pieces_is_not_heard(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "0123456789-abcdefghij-0123456789")
    own, found = "0123456789-abcdefghij-0123456789", f"sk-ant-api03-{'aB3dE6gH9k' * 9}-AA"
    spoken = f"{LONG[:300]} {own} {LONG[:300]} {found} {LONG[:300]} {own}"
    with provided([text(spoken, pace=0.002)]) as provider:
        run = ask(desk, writer(provider, output=str, stream=True))

    heard = said(desk, run)
    assert heard == desk.end(run).output
    assert heard.count("<SOME_TOKEN>") == 2
    assert "0123456789-" not in heard
    assert "aB3dE6gH9k" not in heard
    assert len(heard) > 900


# --- any agent --------------------------------------------------------------------------------------------


def test_any_agent_may_say_something_but_not_without_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SAYS", 10)

    @agent
    def speak(ctx: Context, value: int) -> int:
        for _ in range(5):
            ctx.say("abcd", chapter=1)
        ctx.say("never")
        return value

    # What was said stands there before the outcome does
    run = desk.start(speak, value=0)
    assert said(desk, run, chapter=1) == "abcdabcdab…"
    assert deltas(desk, run)[-1]["cut"] is True


def test_what_cannot_be_stored_is_replaced(desk: Desk) -> None:
    @agent
    async def speak(ctx: Context, value: int) -> int:
        ctx.say("a\0b\ud800c")
        raise AgentError("hm")

    run = desk.start(speak, value=0)

    assert said(desk, run, attempt=1) == "a\ufffdb?c"


def test_only_the_attempt_that_runs_is_heard(desk: Desk) -> None:
    bench: Bench = desk
    run = bench.submit(workflow("w", named("a")))
    claimed = bench.claim(run, "0")
    delta = Delta(run, "0", claimed.attempt, '{"text": "a"}')
    mine = {(run, "0", claimed.attempt)}

    # One whose row is held just now is asked to try again, and waits for nobody
    with bench.pool.connection() as conn, conn.transaction():
        conn.execute("SELECT FROM steps WHERE run_id = %s FOR UPDATE", (run,))
        assert bench.engine.write_deltas([delta]) == set()
    assert bench.engine.write_deltas([delta, delta]) == mine
    # One that another worker took over is not
    bench.engine.release(Pointer(run, "0"), claimed.attempt)
    assert bench.engine.write_deltas([delta]) == set()
    again = bench.claim(run, "0")
    assert bench.engine.write_deltas([delta, delta._replace(attempt=again.attempt)]) == {
        (run, "0", again.attempt)
    }
    assert [one["text"] for one in deltas(bench, run)] == ["a", "a", "a"]


def test_who_waits_to_be_heard_does_not_wait_for_ever() -> None:
    tried: list[int] = []

    class Deaf:
        def write_deltas(self, deltas: Any) -> set[Any]:
            tried.append(len(deltas))
            return set()

    quiet = Telling(Deaf())
    one = Attempt(UUID(int=1), "0", 1)
    assert quiet.told(one).done()

    quiet.tell(one, {}, "a")
    quiet.told(one).result(timeout=10)

    assert len(tried) == TRIES
    assert quiet.told(one).done()
