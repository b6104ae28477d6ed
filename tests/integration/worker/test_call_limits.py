"""Calls of tools and models under limits of the cluster, in the hands of agents."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel

from orchestrator.places import Places
from orchestrator.store.schema import upgrade
from schemas import Price
from schemas.errors import DefinitionError
from schemas.limits import Limit
from tests.agents import calling
from tests.agents.calling import use
from tests.integration.worker.stack import Stack
from tests.integration.worker.test_asking import Desk, assert_told, attempts
from tests.integration.worker.test_limits import most
from tests.support import Databases, eventually
from workers import Agent, Batch, Context, Retry, agent, llm_agent, tool
from workers.gates.limits import LimitGate, of_models
from workers.process import WorkerProcess
from workers.scripted import Reply, ScriptedProvider, text
from workers.scripted.script import Call as called

ONE = Limit(concurrency=1)


@pytest.fixture
def desk(databases: Databases) -> Iterator[Desk]:
    """A desk whose agents' calls pass the gates of limits."""
    url = databases.create(databases.template("migrated", upgrade))
    made = Desk(url)
    made.runner._gates = (LimitGate(made.engine, made.send, made.hands.limits),)
    yield made
    made.close()
    databases.drop(url)


def occupied(desk: Desk, limit: str, path: str = "0") -> None:
    """Somebody else's call stands under this limit: an attempt that runs, of another run."""
    run = desk.submit(calling.alone)
    desk.messages.clear()
    claimed = desk.claim(run, path)
    desk.query("INSERT INTO limits (key) VALUES (%s) ON CONFLICT DO NOTHING", limit)
    desk.query(
        "INSERT INTO permits (key, run_id, path, attempt, place) VALUES (%s, %s, %s, %s, 0)",
        limit,
        run,
        path,
        claimed.attempt,
    )


def freed(desk: Desk) -> None:
    """Those calls have ended, and so has the patience of whoever waits for them."""
    desk.query("DELETE FROM permits")
    desk.query("UPDATE steps SET due_at = clock_timestamp() WHERE state = 'ready' AND due_at IS NOT NULL")


def test_calls_pass_that_are_under_their_limits(desk: Desk) -> None:
    @agent
    async def worker(ctx: Context, number: int) -> list[int]:
        return [await use(ctx, "bell", (ONE, Limit(rate="100/s")), number + more) for more in range(3)]

    run = desk.start(worker, value=1)

    assert desk.end(run).output == [1, 2, 3]
    assert attempts(desk, run) == ["done"]
    assert desk.query("SELECT count(*) FROM permits") == [(0,)]


def test_a_short_wait_is_waited_for_in_the_worker(desk: Desk) -> None:
    @agent
    async def worker(ctx: Context, number: int) -> float:
        began = time.monotonic()
        for _ in range(3):
            await use(ctx, "bell", (Limit(rate="10/s"),), number)
        return time.monotonic() - began

    run = desk.start(worker, value=1)

    assert desk.end(run).output >= 0.2
    assert attempts(desk, run) == ["done"]


def test_a_place_is_handed_on_within_a_process_at_once(desk: Desk) -> None:
    @agent
    async def worker(ctx: Context, number: int) -> float:
        began = time.monotonic()
        await asyncio.gather(*[use(ctx, "bell", (ONE,), number, hold=0.01) for _ in range(5)])
        return time.monotonic() - began

    run = desk.start(worker, value=1)

    assert desk.end(run).output < 0.4  # five looks at a busy place would take longer
    assert attempts(desk, run) == ["done"]


def test_a_long_wait_holds_no_worker_and_repeats_nothing(desk: Desk) -> None:
    did: list[str] = []

    @agent(retry=Retry(max=0))
    async def worker(ctx: Context, number: int) -> int:
        await ctx.once("before", lambda: did.append("before"))
        return await use(ctx, "bell", (ONE,), number)

    occupied(desk, "concurrency of tool bell")
    run = desk.start(worker, value=7)

    step = desk.view(run).steps[0]
    assert (step.state, step.limited) == ("ready", "concurrency of tool bell")
    assert "step.limited" in desk.kinds(run, "0")
    assert_told(desk, run)

    freed(desk)
    desk.work()

    assert desk.end(run).output == 7
    assert attempts(desk, run) == ["limited", "done"]
    assert did == ["before"]
    assert_told(desk, run)


def test_an_agent_that_catches_everything_waits_all_the_same(desk: Desk) -> None:
    @agent
    async def stubborn(ctx: Context, number: int) -> int:
        try:
            return await use(ctx, "bell", (ONE,), number)
        except BaseException:  # noqa: BLE001  as the worst of agents does
            return -1

    occupied(desk, "concurrency of tool bell")
    run = desk.start(stubborn, value=7)
    assert attempts(desk, run) == ["limited"]
    freed(desk)
    desk.work()

    assert desk.end(run).output == 7


@pytest.mark.parametrize("grouped", [False, True])
def test_what_stands_beside_a_call_that_has_to_wait_ends_first_and_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    did: list[str] = []

    @tool(limits=[ONE])
    async def bell() -> str:
        return "rang"

    @tool(idempotent=False)
    async def gong() -> str:
        did.append("began")
        await asyncio.sleep(0.2)
        did.append("boomed")
        return "boomed"

    async def beat(ctx: Context) -> Any:
        boomed = await ctx.use(gong)
        await ctx.once("after", lambda: did.append("after"))
        return boomed

    @agent(retry=Retry(max=0))
    async def ringer(ctx: Context, number: int) -> Any:
        if not grouped:
            return await asyncio.gather(ctx.use(bell), beat(ctx))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.use(bell)), group.create_task(beat(ctx))]
        return [task.result() for task in tasks]

    monkeypatch.setattr("workers.gates.limits.PATIENCE", 0.1)
    occupied(desk, "concurrency of tool bell")
    run = desk.start(ringer, value=1)
    assert did == ["began", "boomed"]
    freed(desk)
    desk.work()

    assert desk.end(run).output == ["rang", "boomed"]
    assert did == ["began", "boomed", "after"]


def test_a_call_inside_of_a_block_that_has_to_wait_does_not_wait_for_the_block(desk: Desk) -> None:
    @tool(limits=[ONE])
    async def bell() -> str:
        return "rang"

    @agent(timeout=10, retry=Retry(max=0))
    async def ringer(ctx: Context, number: int) -> Any:
        return await asyncio.gather(*[ctx.once(f"ring {n}", lambda: ctx.use(bell)) for n in range(2)])

    occupied(desk, "concurrency of tool bell")
    run = desk.start(ringer, value=1)
    assert attempts(desk, run) == ["limited"]
    freed(desk)
    desk.work()

    assert desk.end(run).output == ["rang", "rang"]


def test_all_steps_of_a_batch_wait_for_what_its_call_has_to_wait_for(desk: Desk) -> None:
    @tool(limits=[ONE])
    async def bell(times: int) -> int:
        return times

    @agent(batch=Batch(size=2, within=0.01), timeout=5, retry=Retry(max=0))
    async def ringer(contexts: list[Context], numbers: list[int]) -> list[int]:
        return [await contexts[0].use(bell, times=number) for number in numbers]

    occupied(desk, "concurrency of tool bell")
    run = desk.start(ringer, value=3)
    assert attempts(desk, run) == ["limited"]
    freed(desk)
    desk.work()

    assert desk.end(run).output == 3


def test_a_call_that_fails_or_is_stopped_gives_its_place_back(desk: Desk) -> None:
    @agent(retry=Retry(max=0))
    async def failing(ctx: Context, number: int) -> int:
        return await use(ctx, "bell", (ONE,), ValueError("no"))

    @agent(timeout=0.2, retry=Retry(max=0))
    async def slow(ctx: Context, number: int) -> int:
        return await use(ctx, "bell", (ONE,), number, hold=30)

    for one in (failing, slow):
        run = desk.start(one, value=1)
        assert attempts(desk, run) == ["failed"]
        assert desk.query("SELECT count(*) FROM permits") == [(0,)]


def test_one_who_gives_up_while_the_question_is_under_way_keeps_no_place(desk: Desk) -> None:
    @agent
    async def impatient(ctx: Context, number: int) -> int:
        asked = asyncio.create_task(use(ctx, "bell", (ONE,), number, hold=30))
        while not gate._asking._waiting and gate._asking._task is None:
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        return number

    (gate,) = desk.runner._gates
    assert isinstance(gate, LimitGate)
    run = desk.start(impatient, value=1)

    assert desk.end(run).output == 1
    eventually(lambda: desk.query("SELECT count(*) FROM permits") == [(0,)])


# --- of models and tools --------------------------------------------------------------------------------------------


class Question(BaseModel):
    about: str


def thinker(provider: ScriptedProvider, **options: Any) -> Agent:
    return llm_agent(
        "thinker",
        model="openai:scripted",
        input=Question,
        output=str,
        instructions="Answer.",
        base_url=provider.base_url,
        price=Price(input=1, output=10),
        **options,
    )


def test_a_model_that_is_at_its_limit_is_waited_for_without_a_worker(desk: Desk) -> None:
    with ScriptedProvider([text("Twice a day.")]) as provider:
        occupied(desk, "concurrency of model openai:scripted")
        run = desk.start(thinker(provider, model_limits=[ONE]), value={"about": "tides"})
        assert desk.view(run).steps[0].limited == "concurrency of model openai:scripted"
        assert provider.log == []
        freed(desk)
        desk.work()

        assert desk.end(run).output == "Twice a day."
        assert len(provider.log) == 1


def test_a_model_has_the_limits_that_any_agent_declares_for_it(desk: Desk) -> None:
    # Given one agent that limits a model, and another one that says nothing
    with ScriptedProvider([text("Twice a day.")]) as provider:
        careful, careless = thinker(provider, model_limits=[ONE]), thinker(provider)
        known = of_models(agent.model_limits for agent in (careful, careless))
        desk.runner._gates = (LimitGate(desk.engine, desk.send, desk.hands.limits, known),)
        occupied(desk, "concurrency of model openai:scripted")

        # Then the other one waits for its turn, too
        run = desk.start(careless, value={"about": "tides"})
        assert desk.view(run).steps[0].limited == "concurrency of model openai:scripted"
        assert provider.log == []
        freed(desk)
        desk.work()

    assert desk.end(run).output == "Twice a day."


def test_what_several_agents_declare_for_a_model_is_limited_once() -> None:
    rate, tenant = Limit(rate="60/m", burst=5), Limit(per="tenant", concurrency=9)
    declared = [
        {"openai:a": (Limit(concurrency=3), rate)},
        {"openai:a": (Limit(concurrency=2, rate="60/m", burst=2), tenant), "openai:b": ()},
        {"openai:a": (Limit(name="acme", concurrency=1),)},
    ]

    assert of_models(declared) == {
        "openai:a": (
            Limit(concurrency=2),
            tenant,
            Limit(name="acme", concurrency=1),
            Limit(rate="60/m", burst=2),
        ),
    }


def test_a_worker_knows_the_limits_of_the_models_of_its_app() -> None:
    limited = llm_agent(
        "limited", model="openai:x", input=str, output=str, instructions="", model_limits=[ONE]
    )
    process = WorkerProcess(
        Celery(set_as_current=False), Places("postgresql://nowhere/x", "redis://nowhere/0")
    )
    process.agents = {"limited": limited}

    (gate,) = (one for one in process.runner._gates if isinstance(one, LimitGate))
    process.retire(0)

    assert gate._of_models == {"openai:x": (ONE,)}


def test_a_tool_at_its_limit_repeats_neither_the_model_nor_the_tools_beside_it(desk: Desk) -> None:
    used: list[str] = []

    @tool(limits=[ONE])
    async def bell(times: int) -> str:
        """Ring."""
        used.append("bell")
        return "rang"

    async def gong(times: int) -> str:
        """Beat."""
        await asyncio.sleep(0.05)
        used.append("gong")
        return "boomed"

    both = Reply(calls=(called("bell", {"times": 1}), called("gong", {"times": 1})))
    with ScriptedProvider([both, text("Done.")]) as provider:
        occupied(desk, "concurrency of tool bell")
        run = desk.start(thinker(provider, tools=[bell, gong]), value={"about": "tides"})
        assert desk.view(run).steps[0].limited == "concurrency of tool bell"
        assert used == ["gong"]
        freed(desk)
        desk.work()

        assert desk.end(run).output == "Done."
        assert used == ["gong", "bell"]
        assert len(provider.log) == 2
        assert desk.view(run).totals.usage.model_calls == 2


def test_a_plain_agent_waits_for_a_tool_in_a_thread_as_well(desk: Desk) -> None:
    @tool(limits=[ONE])
    def bell(times: int) -> int:
        return times

    @agent
    def ringer(ctx: Context, times: int) -> int:
        return ctx.use(bell, times=times)

    occupied(desk, "concurrency of tool bell")
    run = desk.start(ringer, value=3)
    assert attempts(desk, run) == ["limited"]
    freed(desk)
    desk.work()

    assert desk.end(run).output == 3


@pytest.mark.parametrize(
    "limits", [[Limit(per="key", key="input.x", concurrency=1)], [Limit(concurrency=1), Limit(concurrency=2)]]
)
def test_limits_that_a_model_cannot_keep_are_refused(limits: list[Limit]) -> None:
    with pytest.raises(DefinitionError, match="limits"):
        llm_agent("thinker", model="openai:x", input=str, output=str, instructions="", model_limits=limits)


# --- with real workers ----------------------------------------------------------------------------------------------


def test_two_workers_keep_to_a_limit_of_a_tool_together_and_do_other_work(alone: Stack) -> None:
    for _ in range(2):
        alone.begin("caller", "idler", BATON_APP=calling.__name__)
    run = alone.submit(calling.many, [0.1] * 20)
    assert alone.run(calling.idle, 1) == 1

    turns = run.result(40)["results"]

    assert most(turns) == 2
    assert len(turns) == 20


def test_a_killed_worker_frees_the_places_of_its_calls(alone: Stack) -> None:
    first = alone.worker("caller", BATON_APP=calling.__name__, BATON_LEASE="1.0", BATON_HEARTBEAT="0.2")
    run = alone.submit(calling.many, [0.6] * 4)
    eventually(lambda: alone.query("SELECT count(*) FROM permits") == [(2,)], timeout=20)
    first.kill()
    alone.begin("caller", BATON_APP=calling.__name__, BATON_LEASE="1.0", BATON_HEARTBEAT="0.2")

    turns = run.result(60)["results"]

    assert most(turns) <= 2
    assert len(turns) == 4


def test_a_worker_that_was_frozen_finds_its_places_given_to_others(alone: Stack) -> None:
    first = alone.worker("caller", BATON_APP=calling.__name__, BATON_LEASE="1.0", BATON_HEARTBEAT="0.2")
    run = alone.submit(calling.many, [0.4] * 8)
    eventually(lambda: alone.query("SELECT count(*) FROM permits") == [(2,)], timeout=20)
    first.signal(signal.SIGSTOP)
    second = alone.begin("caller", BATON_APP=calling.__name__, BATON_LEASE="1.0", BATON_HEARTBEAT="0.2")

    def others_work() -> None:
        done = alone.query("SELECT count(*) FROM attempts WHERE state = 'done' AND run_id = %s", run.id)
        assert done >= [(2,)], second.text()

    eventually(others_work, timeout=30)
    first.signal(signal.SIGCONT)
    turns = run.result(40)["results"]

    assert most(turns) <= 2
    assert len(turns) == 8


def test_leave_that_came_late_to_a_frozen_process_is_asked_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    @agent
    async def worker(ctx: Context, number: int) -> int:
        return await use(ctx, "bell", (ONE,), number)

    (gate,) = desk.runner._gates
    assert isinstance(gate, LimitGate)
    asked: list[int] = []
    admit = gate._keeper.admit_calls

    def frozen(calls: Any) -> Any:
        answer = admit(calls)
        asked.append(len(calls))
        if len(asked) == 1:
            threading.Event().wait(0.1)
        return answer

    monkeypatch.setattr(gate._keeper, "admit_calls", frozen)
    monkeypatch.setattr("workers.gates.limits.STALE", 0.05)
    run = desk.start(worker, value=7)

    assert desk.end(run).output == 7
    assert asked == [1, 1]
