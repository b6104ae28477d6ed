"""Agents that ask people, and do each thing once: in this process, and with real workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from orchestrator.definitions.plan import parent_of
from orchestrator.definitions.vocabulary import fan_out, workflow
from orchestrator.engine import Claimed, Finished, Pointer
from orchestrator.engine.journals import Entry
from orchestrator.identify import new_id
from orchestrator.messaging.broker import shared_app
from orchestrator.messaging.canvas import task_id
from orchestrator.people.approvals import Approvals
from orchestrator.places import Places
from orchestrator.shared_state import SharedState
from orchestrator.store.schema import upgrade
from orchestrator.watching.replay import Replay
from schemas.errors import Conflict, InputError, Permanent
from schemas.events import EventKind
from tests.agents import asking
from tests.integration.engine.bench import Bench, named
from tests.integration.engine.test_notices import SECRET, Listener
from tests.integration.engine.test_notices import listener as listener
from tests.integration.worker.stack import Stack
from tests.support import Databases, eventually
from workers import Agent, AgentError, Context, Retry, Unanswered, agent
from workers.attempts import Attempts
from workers.endings import Superseded
from workers.execute import Runner
from workers.hands import Hands
from workers.loop import LoopThread
from workers.tools.calling import Tooling


class Desk(Bench):
    """A bench on which real agents work, and people answer."""

    def __init__(self, url: str, *, forked: bool = False) -> None:
        super().__init__(url)
        self.threads = None if forked else ThreadPoolExecutor(8)
        self.hands = Hands()
        self.loop = loop = LoopThread()
        self.agents: dict[str, Agent] = {}
        self.runner = Runner(
            loop,
            self.threads,
            Attempts(),
            SharedState(self.pool),
            self.engine,
            self.tooling(loop),
            self.hands,
            agents=self.agents,
        )
        self.people = Approvals(self.pool, self.engine, self, self.views)  # type: ignore[arg-type]

    def tooling(self, loop: LoopThread) -> Tooling:
        return Tooling(loop, self.pool, self.hands.tools)

    def start(self, *agents: Agent, value: Any = None) -> UUID:
        """Run a pipeline of these agents as far as it goes."""
        body = agents[0].part
        for one in agents[1:]:
            body = body >> one
        self.agents |= {one.name: one for one in agents}
        run = self.submit(workflow("w", body), value)
        self.work()
        return run

    def work(self) -> None:
        """Run what was sent, each message twice, until nothing is left."""
        while self.messages or self.fire() or self._soon():
            for one in 2 * [self.messages.pop(0)] if self.messages else []:
                claimed = self.engine.claim(Pointer(one.run.id, one.path))
                if isinstance(claimed, Claimed):
                    self.attempt(claimed)

    def _soon(self) -> bool:
        """Whether something is due in this moment, which has been waited for."""
        ((soon,),) = self.query(
            "SELECT EXISTS (SELECT FROM steps WHERE state = 'ready' AND due_at < now() + interval '0.1 s')"
        )
        return bool(soon) and eventually(lambda: self.fire() > 0)

    def attempt(self, claimed: Claimed) -> None:
        """One attempt of the agent of a claimed step."""
        leaf: Any = claimed.run.plan.at(claimed.path).node
        ended = self.runner.run(self.agents[leaf.agent], claimed)
        recorded = self.engine.record(Finished(claimed.run.id, claimed.path, claimed.attempt, *ended))
        self.messages += recorded.ready

    def question(self, run: UUID) -> int:
        """The only open question of a run."""
        (one,) = self.people.approvals(run_id=run)
        return one.id

    def answer(self, run: UUID, value: Any) -> None:
        self.people.answer(self.question(run), value, by="ann")
        self.work()

    def close(self) -> None:
        self.loop.end()
        if self.threads is not None:
            self.threads.shutdown()
        super().close()


@pytest.fixture(params=["threads", "processes"])
def desk(databases: Databases, request: pytest.FixtureRequest) -> Iterator[Desk]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Desk(url, forked=request.param == "processes")
    yield made
    made.close()
    databases.drop(url)


def attempts(desk: Desk, run: UUID, path: str = "0") -> list[str]:
    """How the tries of a step ended."""
    found = desk.query(
        "SELECT state FROM attempts WHERE run_id = %s AND path = %s ORDER BY attempt", run, path
    )
    return [state for (state,) in found]


def assert_told(desk: Desk, run: UUID) -> None:
    replay = Replay(desk.plan(run), desk.events(run))
    assert {path: step.state.value for path, step in replay.steps.items()} == desk.states(run)
    rows = desk.query("SELECT path, attempt, losses FROM steps WHERE run_id = %s", run)
    assert {path: (step.attempt, step.losses) for path, step in replay.steps.items()} == {
        path: (attempt, losses) for path, attempt, losses in rows
    }


# --- questions --------------------------------------------------------------------------------------------


def test_a_question_sets_the_step_aside_until_it_is_answered(desk: Desk) -> None:
    # Given an agent that asks between two things that it does
    did: list[str] = []

    @agent(retry=Retry(max=0))
    def clerk(ctx: Context, what: str) -> list[Any]:
        did.append("started")
        number = ctx.once("book", lambda: did.append("booked") or 7)  # type: ignore[func-returns-value]
        ok = ctx.ask_human(f"Ship {what}?", type=bool)
        ctx.once("ship", lambda: did.append("shipped"))
        return [number, ok, ctx.attempt]

    # When it has asked
    run = desk.start(clerk, value="tea")

    # Then it holds no worker, and all that it did is kept
    assert desk.states(run) == {"0": "waiting"}
    assert did == ["started", "booked"]
    assert attempts(desk, run) == ["waiting"]
    assert_told(desk, run)
    (one,) = desk.people.approvals()
    assert (one.kind, one.key, desk.people.approval(one.id).takes) == (
        "question",
        "Ship tea?",
        {"type": "boolean"},
    )
    assert f"to answer 'Ship tea?': baton approvals answer {one.id} ANSWER" in desk.view(run).notes[0]

    # And when it is answered, it goes on from there, in an attempt that is no retry
    desk.answer(run, True)
    assert desk.end(run).output == [7, True, 2]
    assert did == ["started", "booked", "started", "shipped"]
    assert attempts(desk, run) == ["waiting", "done"]
    assert desk.query("SELECT retries, losses FROM steps") == [(0, 0)]
    assert_told(desk, run)
    (told,) = [event.data for event in desk.events(run) if event.kind is EventKind.STEP_DECIDED]
    assert (told["choice"], told["by"], told["question"], told["answer"]["shown"]) == (
        "answered",
        "ann",
        "Ship tea?",
        True,
    )


def test_an_async_agent_asks_one_question_after_the_other(desk: Desk) -> None:
    did: list[str] = []

    @agent
    async def clerk(ctx: Context, what: str) -> list[Any]:
        async def book() -> str:
            return await asyncio.to_thread(lambda: did.append("booked") or "number")  # type: ignore[func-returns-value]

        number = await ctx.once("book", book)
        first = await ctx.ask_human("How many?", type=int)
        second = await ctx.ask_human("For whom?")
        return [number, first, second]

    run = desk.start(clerk, value="tea")
    desk.answer(run, 3)
    desk.answer(run, "Bob")

    assert desk.end(run).output == ["number", 3, "Bob"]
    assert did == ["booked"]
    assert attempts(desk, run) == ["waiting", "waiting", "done"]
    assert_told(desk, run)


def test_questions_that_are_asked_beside_each_other_are_asked_one_by_one(desk: Desk) -> None:
    @agent
    async def gathers(ctx: Context, what: str) -> list[Any]:
        return list(await asyncio.gather(*(ctx.ask_human(f"Question {n}?") for n in range(2))))

    @agent
    async def groups(ctx: Context, what: list[Any]) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ctx.ask_human(f"Further {n}?")) for n in range(2)]
        return [*what, *(one.result() for one in asked)]

    run = desk.start(gathers, groups, value="x")
    for _ in range(4):
        desk.answer(run, desk.people.approvals(run_id=run)[0].key)

    assert desk.end(run).output == ["Question 0?", "Question 1?", "Further 0?", "Further 1?"]


def test_an_agent_that_catches_everything_still_waits(desk: Desk) -> None:
    @agent
    def greedy(ctx: Context, what: str) -> str:
        try:
            return str(ctx.ask_human("Well?"))
        except Exception:  # noqa: BLE001  as agents do
            return "caught"

    @agent
    def greedier(ctx: Context, what: str) -> str:
        try:
            return what + str(ctx.ask_human("Well?"))
        except BaseException:  # noqa: BLE001  as agents should not
            return "caught"

    run = desk.start(greedy, greedier, value="x")
    desk.answer(run, "a")
    desk.answer(run, "b")

    assert desk.end(run).output == "ab"


def test_an_answer_outlives_the_attempt_that_fails_after_it(desk: Desk) -> None:
    @agent(retry=Retry(max=1, base=0.001))
    def shaky(ctx: Context, what: str) -> list[Any]:
        ctx.spend(tokens=5)
        answer = ctx.ask_human("Well?")
        if ctx.attempt == 2:
            raise AgentError("for the moment")
        return [answer, ctx.attempt]

    run = desk.start(shaky, value="x")
    desk.answer(run, "fine")
    eventually(lambda: desk.work() or desk.end(run))  # type: ignore[func-returns-value]

    assert desk.end(run).output == ["fine", 3]
    assert desk.query("SELECT count(*) FROM waits") == [(1,)]
    assert attempts(desk, run) == ["waiting", "failed", "done"]
    assert desk.query("SELECT sum((usage ->> 'tokens')::int)::int FROM attempts") == [(15,)]
    assert_told(desk, run)


class Color(BaseModel):
    name: str
    bright: bool = False


def test_an_answer_has_the_type_that_was_asked_for(desk: Desk) -> None:
    @agent
    def painter(ctx: Context, what: str) -> str:
        color: Color = ctx.ask_human("Which color?", type=Color)
        return f"{what} {color.name} {color.bright}"

    run = desk.start(painter, value="door")

    with pytest.raises(InputError, match="the answer of 'Which color\\?'"):
        desk.answer(run, "red")
    desk.answer(run, {"name": "red"})
    assert desk.end(run).output == "door red False"


def test_an_approval_is_not_answered_and_a_question_not_approved(desk: Desk) -> None:
    @agent
    def asks(ctx: Context, what: str) -> str:
        return str(ctx.ask_human("Well?", audience=["ann", "bob"]))

    run = desk.start(asks, value="x")
    wait = desk.question(run)

    with pytest.raises(Conflict, match="is a question, 'Well\\?'"):
        desk.people.approve(wait, by="ann")
    with pytest.raises(Conflict, match="is for ann or bob"):
        desk.people.answer(wait, "x", by="carl")
    desk.answer(run, "fine")
    with pytest.raises(Conflict, match="was answered by ann already"):
        desk.people.answer(wait, "late", by="bob")


def later(desk: Desk) -> None:
    desk.query("UPDATE steps SET due_at = now() WHERE state = 'waiting'")
    desk.fire()
    desk.work()


def test_a_question_that_nobody_answers_gives_its_default(desk: Desk) -> None:
    @agent
    def asks(ctx: Context, what: str) -> Any:
        return ctx.ask_human("How many?", type=int, expires=60, default=3)

    run = desk.start(asks, value="x")
    later(desk)

    assert desk.end(run).output == 3
    assert_told(desk, run)


def test_a_question_without_a_default_raises_when_its_time_is_over(desk: Desk) -> None:
    did: list[str] = []

    @agent
    def asks(ctx: Context, what: str) -> Any:
        ctx.once("book", lambda: did.append("booked"))
        return ctx.ask_human("How many?", type=int, expires=60)

    @agent
    def copes(ctx: Context, what: str) -> str:
        try:
            return str(ctx.ask_human("Which?", expires=60))
        except Unanswered:
            return "any"

    coping = desk.start(copes, value="x")
    run = desk.start(asks, value="x")
    later(desk)

    assert desk.end(coping).output == "any"
    error = desk.end(run).error
    assert error is not None
    assert (error.type, error.message) == ("Unanswered", "nobody has answered after 60 s: How many?")
    # And a resumed run asks again, but does nothing else again
    desk.messages += desk.engine.resume(run)
    desk.work()
    desk.answer(run, 4)
    assert desk.end(run).output == 4
    assert did == ["booked"]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"question": " "}, "needs a text"),
        ({"default": "x"}, "a default answer needs `expires`"),
        ({"expires": 0}, "expires=0 is not a number"),
        ({"escalate_to": "boss"}, "need each other"),
    ],
)
def test_a_question_that_cannot_be_asked_fails_its_step(
    desk: Desk, fields: dict[str, Any], fault: str
) -> None:
    @agent
    def asks(ctx: Context, what: str) -> str:
        return str(ctx.ask_human(**{"question": "Well?", **fields}))

    error = desk.end(desk.start(asks, value="x")).error

    assert error is not None
    assert fault in error.message


def test_a_question_that_cannot_be_stored_fails_its_step_alone(desk: Desk) -> None:
    @agent
    def asks(ctx: Context, what: str) -> str:
        return str(ctx.ask_human("Well?", context={"odd": "\0"}))

    assert "cannot be stored" in str(desk.end(desk.start(asks, value="x")).error)


def test_cancelling_takes_the_question_back(desk: Desk) -> None:
    @agent
    def asks(ctx: Context, what: str) -> str:
        return str(ctx.ask_human("Well?"))

    run = desk.start(asks, value="x")
    wait = desk.question(run)
    desk.engine.cancel(run)

    with pytest.raises(Conflict, match="withdrawn by cancel"):
        desk.people.answer(wait, "x", by="ann")
    assert desk.states(run) == {"0": "cancelled"}


def test_an_answer_in_a_paused_run_is_kept_until_it_goes_on(desk: Desk) -> None:
    @agent
    def asks(ctx: Context, what: str) -> str:
        return str(ctx.ask_human("Well?"))

    run = desk.start(asks, value="x")
    desk.engine.pause(run)
    desk.answer(run, "yes")
    assert desk.states(run) == {"0": "ready"}
    assert desk.messages == []

    desk.messages += desk.engine.resume(run)
    desk.work()

    assert desk.end(run).output == "yes"


# --- blocks that are executed once ------------------------------------------------------------------------


def test_what_was_done_once_is_not_done_again_by_a_retry(desk: Desk) -> None:
    did: list[str] = []

    @agent(retry=Retry(max=2, base=0.001))
    def shaky(ctx: Context, what: str) -> list[Any]:
        first = ctx.once("first", lambda: did.append("first") or {"n": len(did)})  # type: ignore[func-returns-value]
        if ctx.attempt == 1:
            raise AgentError("for the moment")
        second = ctx.once("second", lambda: did.append("second") or len(did))  # type: ignore[func-returns-value]
        if ctx.attempt == 2:
            raise AgentError("once more")
        return [first, second]

    run = desk.start(shaky, value="x")
    eventually(lambda: desk.work() or desk.end(run))  # type: ignore[func-returns-value]

    assert desk.end(run).output == [{"n": 1}, 2]
    assert did == ["first", "second"]


def test_a_block_gives_the_same_in_every_attempt(desk: Desk) -> None:
    seen: list[Any] = []

    @agent(retry=Retry(max=1, base=0.001))
    def shaky(ctx: Context, what: str) -> str:
        seen.append(ctx.once("model", lambda: Color(name="red"), type=Color))
        seen.append(ctx.once("plain", lambda: Color(name="red")))
        if ctx.attempt == 1:
            raise AgentError("for the moment")
        return "done"

    run = desk.start(shaky, value="x")
    eventually(lambda: desk.work() or desk.end(run))  # type: ignore[func-returns-value]

    assert seen == 2 * [Color(name="red"), {"name": "red", "bright": False}]


def test_a_block_that_fails_is_executed_again(desk: Desk) -> None:
    tries: list[int] = []

    @agent(retry=Retry(max=1, base=0.001))
    async def shaky(ctx: Context, what: str) -> Any:
        def block() -> int:
            tries.append(ctx.attempt)
            if ctx.attempt == 1:
                raise AgentError("inside")
            return ctx.attempt

        return await ctx.once("block", block)

    run = desk.start(shaky, value="x")
    eventually(lambda: desk.work() or desk.end(run))  # type: ignore[func-returns-value]

    assert desk.end(run).output == 2
    assert tries == [1, 2]


def test_an_attempt_that_does_other_things_than_before_is_refused(desk: Desk) -> None:
    did: list[str] = []

    @agent(retry=Retry(max=3, base=0.001))
    def fickle(ctx: Context, what: str) -> str:
        key = "one" if ctx.attempt == 1 else "other"
        ctx.once(key, lambda: did.append(key))
        raise AgentError("for the moment")

    run = desk.start(fickle, value="x")
    eventually(lambda: desk.work() or desk.end(run))  # type: ignore[func-returns-value]

    error = desk.end(run).error
    assert error is not None
    assert error.type == "JournalMismatch"
    assert "its call 1 of the journal is 'once other', but an earlier attempt had 'once one'" in error.message
    assert did == ["one"]


@pytest.mark.parametrize(("value", "fault"), [(object(), "has no JSON form"), ("\0", "NUL")])
def test_what_cannot_be_kept_fails_the_step_at_once(desk: Desk, value: Any, fault: str) -> None:
    did: list[str] = []

    @agent(retry=Retry(max=3, base=0.001))
    def odd(ctx: Context, what: str) -> str:
        ctx.once("odd", lambda: did.append("done") or value)  # type: ignore[func-returns-value]
        return "never"

    error = desk.end(desk.start(odd, value="x")).error

    assert error is not None
    assert fault in error.message
    assert did == ["done"]


def test_an_attempt_that_was_given_to_others_keeps_nothing(desk: Desk) -> None:
    run = desk.submit(workflow("w", named("a")))
    lost = desk.claim(run, "0")
    assert desk.engine.write_journal(lost, 0, Entry("once x", "1"))
    assert desk.engine.write_journal(lost, 0, Entry("once x", "1"))  # its answer was lost, so it asks again
    desk.engine.release(Pointer(run, "0"))
    new = desk.claim(run, "0")

    assert not desk.engine.write_journal(lost, 1, Entry("once y", "2"))
    assert desk.engine.read_journal(new) == {0: Entry("once x", "1")}
    desk.engine.cancel(run)
    assert not desk.engine.write_journal(new, 1, Entry("once y", "2"))


def test_an_agent_that_was_given_to_others_is_stopped_at_its_next_block(desk: Desk) -> None:
    did: list[str] = []

    @agent
    def slow(ctx: Context, what: str) -> str:
        ctx.once("first", lambda: desk.engine.release(Pointer(ctx.run_id, ctx.path)) and None)
        did.append("went on")
        return "never"

    desk.agents[slow.name] = slow
    run = desk.submit(workflow("w", slow), "x")

    with pytest.raises(Superseded):
        desk.runner.run(slow, desk.claim(run, "0"))
    assert did == []


def test_what_is_open_in_a_fork_goes_on_from_where_the_other_run_is(desk: Desk) -> None:
    did: list[str] = []

    @agent
    def asks(ctx: Context, what: str) -> Any:
        ctx.once("book", lambda: did.append("booked"))
        return ctx.ask_human("Well?")

    @agent
    def plain(what: str) -> str:
        return what

    desk.agents |= {"asks": asks, "plain": plain}
    run = desk.submit(workflow("w", fan_out(asks, plain)), "x")
    desk.work()
    new = new_id()

    desk.messages += desk.engine.fork(run, "0/plain", new)
    desk.work()
    desk.answer(new, "yes")

    assert desk.end(new).output == {"asks": "yes", "plain": "x", "gaps": []}
    assert did == ["booked"]
    assert desk.states(run)["0/asks"] == "waiting"
    assert parent_of("0/asks") == "0"


def test_without_a_step_a_block_is_just_executed_and_nobody_can_be_asked() -> None:
    ctx = Context(new_id(), "0", 1, "w", "default", {}, None, 0.0)

    assert ctx.once("x", lambda: 5) == 5
    with pytest.raises(Permanent, match="nobody can be asked here"):
        ctx.ask_human("Well?")


# --- with workers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clerk", ["clerk", "forked_clerk", "async_clerk"])
def test_workers_set_a_step_aside_and_any_of_them_goes_on(shared: Stack, clerk: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = shared.submit(asking.counters[clerk], {"what": "tea", "log": str(log)})

    def decided(verb: Callable[[int], object]) -> None:
        def tried() -> None:
            found = shared.client.approvals(run_id=run.id)
            assert len(found) == 1
            verb(found[0].id)

        eventually(tried, 20)

    decided(lambda id: shared.client.approve(id, by="ann"))

    def answered(id: int) -> None:
        app = shared_app(Places(shared.database_url, shared.broker_url))
        assert app.AsyncResult(task_id(Pointer(run.id, "1"))).state == "STARTED"
        shared.client.answer(id, True, by="ann")

    decided(answered)

    assert run.result(30)["what"] == "tea"
    assert log.read_text().splitlines() == ["booked", "shipped"]
    step = run.view().steps[1]
    assert (step.attempt, step.losses) == (2, 0)
    assert "step.lost" not in shared.kinds(run, "1")
    assert json.dumps(shared.kinds(run, "1")).count("step.started") == 2


def test_a_worker_tells_people_what_waits_for_them(alone: Stack, listener: Listener, tmp_path: Path) -> None:
    alone.worker("clerk", BATON_NOTIFY=listener.url, BATON_NOTIFY_SECRET=SECRET)

    run = alone.submit(asking.counters["clerk"], {"what": "tea", "log": str(tmp_path / "log")})

    def told() -> None:
        assert listener.seen

    eventually(told, 20)
    assert listener.messages[0]["type"] == "approval.asked"
    assert listener.messages[0]["data"]["run_id"] == str(run.id)
