"""Circuit breakers around calls and attempts, in the hands of agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import redis

from orchestrator.breakers import Circuits
from orchestrator.definitions.vocabulary import workflow
from orchestrator.store.schema import upgrade
from schemas.breakers import Breaker
from schemas.errors import DefinitionError, Permanent, ToolError
from schemas.events import EventKind
from schemas.usage import Price
from tests.agents import calling
from tests.agents.calling import use
from tests.integration.worker.stack import Stack
from tests.integration.worker.test_asking import Desk, assert_told, attempts
from tests.support import Databases, eventually
from workers import Agent, Context, Retry, agent, llm_agent, tool
from workers.circuits import AgentCircuits
from workers.gates.breakers import BreakerGate, Breakers
from workers.models.named import Model
from workers.scripted import ScriptedProvider, refuse, text

TWO = Breaker(failures=0.5, minimum=2, open=30)
BRIEF = Breaker(failures=0.5, minimum=2, open=0.2)
ONCE = Retry(max=0)


@pytest.fixture
def desk(databases: Databases, broker: str) -> Iterator[Desk]:
    """A desk whose calls and attempts pass circuits."""
    url = databases.create(databases.template("migrated", upgrade))
    made = Desk(url)
    circuits = Circuits(broker, lease=0.5)
    breakers = Breakers(circuits, made.engine.notify, made.hands.circuits)
    made.runner._gates = (BreakerGate(breakers),)
    made.runner._circuits = AgentCircuits(breakers, made.runner._loop)
    yield made
    circuits.close()
    made.close()
    databases.drop(url)


def broken(desk: Desk, agent: Agent, times: int = 2, value: Any = 1) -> list[UUID]:
    """Runs of an agent, as many as it takes to open a circuit."""
    return [desk.start(agent, value=value) for _ in range(times)]


def error(desk: Desk, run: UUID) -> str:
    (told,) = desk.query(
        "SELECT error ->> 'message' FROM attempts WHERE run_id = %s ORDER BY attempt DESC LIMIT 1", run
    )[0]
    return str(told)


def warnings(desk: Desk, run: UUID) -> list[str]:
    events = [event for event in desk.events(run) if event.kind is EventKind.STEP_WARNING]
    return [event.data["message"] for event in events]


# --- calls ----------------------------------------------------------------------------------------------------------


@agent(retry=ONCE)
async def caller(ctx: Context, number: int) -> int:
    """Calls a tool that fails for 0 and 1, and for none other."""
    result = ValueError("down") if number < 2 else number
    return int(await use(ctx, "bell", (), result, breaker=TWO))


def test_a_tool_that_keeps_failing_is_left_alone_and_says_until_when(desk: Desk) -> None:
    first, second = broken(desk, caller)
    assert warnings(desk, first) == []
    assert warnings(desk, second) == [
        "the circuit of tool bell has opened for 30 s: 2 of 2 failed within 60 s"
    ]

    third = desk.start(caller, value=7)

    assert attempts(desk, third) == ["failed"]
    assert error(desk, third).startswith(
        "the circuit of tool bell is open: it kept failing, and is tried again in "
    )
    kinds = [kind for (kind,) in desk.query("SELECT kind FROM notices")]
    assert kinds == ["breaker.opened"]


def test_a_retry_waits_until_it_is_worth_it(desk: Desk) -> None:
    @agent(retry=Retry(max=1, base=0.01))
    async def patient(ctx: Context, number: int) -> int:
        return int(await use(ctx, "bell", (), number, breaker=TWO))

    broken(desk, caller)
    run = desk.start(patient, value=7)

    (due,) = desk.query(
        "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM steps WHERE state = 'ready'"
    )
    assert 25 < due[0] <= 30
    assert attempts(desk, run) == ["failed"]


def test_one_probe_closes_it_for_all(desk: Desk) -> None:
    @agent(retry=Retry(max=3, base=0.05))
    async def prober(ctx: Context, number: int) -> int:
        result = ValueError("down") if number < 2 else number
        return int(await use(ctx, "bell", (), result, breaker=BRIEF))

    for _ in range(2):
        desk.start(prober, value=1)
    run = desk.start(prober, value=7)

    def ended() -> None:
        desk.work()
        assert desk.end(run).output == 7

    eventually(ended)
    assert "the circuit of tool bell is closed again: its probe succeeded" in warnings(desk, run)
    assert "breaker.closed" in [kind for (kind,) in desk.query("SELECT kind FROM notices")]


@pytest.mark.parametrize("error", [ToolError("wrong question"), Permanent("never")], ids=["told", "for good"])
def test_what_is_not_the_fault_of_a_tool_does_not_open_its_circuit(desk: Desk, error: Exception) -> None:
    @agent(retry=ONCE)
    async def asker(ctx: Context, number: int) -> int:
        return int(await use(ctx, "bell", (), error, breaker=TWO))

    for run in broken(desk, asker, times=4):
        assert warnings(desk, run) == []


def test_a_call_that_hangs_until_its_attempt_is_over_is_a_failure(desk: Desk) -> None:
    @agent(retry=ONCE, timeout=0.1)
    async def waiter(ctx: Context, number: int) -> int:
        return int(await use(ctx, "bell", (), number, hold=30, breaker=TWO))

    _, second = broken(desk, waiter)

    assert [one.partition(":")[0] for one in warnings(desk, second)] == [
        "the circuit of tool bell has opened for 30 s"
    ]


def test_a_probe_of_a_long_call_stays_the_only_one(desk: Desk, broker: str) -> None:
    @agent(retry=ONCE)
    async def slow(ctx: Context, number: int) -> int:
        return int(await use(ctx, "bell", (), number, hold=1.2, breaker=BRIEF))

    @agent(retry=ONCE)
    async def quick(ctx: Context, number: int) -> int:
        return int(await use(ctx, "bell", (), number, breaker=BRIEF))

    @agent(retry=ONCE)
    async def failing(ctx: Context, number: int) -> int:
        return int(await use(ctx, "bell", (), ValueError("down"), breaker=BRIEF))

    broken(desk, failing)
    run = desk.submit(workflow("w", slow.part), 7)
    desk.messages.clear()
    desk.agents |= {"slow": slow}

    circuits = Circuits(broker)

    def half_open() -> None:
        assert circuits.views()[0].state == "half-open"

    eventually(half_open)
    probe = desk.runner._loop.submit(desk.runner.attempt(slow, desk.claim(run, "0")))
    eventually(lambda: circuits.views()[0].probing)
    meanwhile: list[str] = []

    def over() -> None:
        other = desk.start(quick, value=1)
        if not probe.done():
            meanwhile.extend(attempts(desk, other))
        assert probe.done()

    eventually(over, every=0.1)
    assert probe.result().output == "7"
    assert len(meanwhile) > 2
    assert set(meanwhile[:-1]) == {"failed"}  # the last one may have come just after the probe's call
    circuits.close()


# --- models and tools -----------------------------------------------------------------------------------------------


def model(provider: ScriptedProvider, name: str = "openai:scripted", **options: Any) -> Model:
    return Model(name, base_url=provider.base_url, price=Price(input=1, output=10), **options)


def test_another_model_answers_while_the_circuit_of_the_first_is_open(desk: Desk) -> None:
    def script(asked: Any) -> Any:
        return refuse(500) if "first" in json.dumps(asked.model) else text("Twice a day.")

    with ScriptedProvider(script) as provider:
        thinker = llm_agent(
            "thinker",
            model=model(provider, "openai:first", breaker=TWO),
            fallbacks=[model(provider, "openai:second")],
            input=str,
            output=str,
            instructions="Answer.",
        )
        runs = broken(desk, thinker, 3, "tides")
        asked = [one.model for one in provider.log]

    assert [desk.end(run).output for run in runs] == ["Twice a day."] * 3
    assert asked.count("first") == 2
    assert "the circuit of model openai:first is open" in str(warnings(desk, runs[2]))


def test_a_dead_model_that_has_a_fallback_is_not_asked_again_and_again(desk: Desk) -> None:
    # Given a model that is dead, with a fallback, and nothing said of breakers
    with ScriptedProvider(lambda asked: refuse(500) if asked.model == "dead" else text("fine")) as provider:
        dead, spare = (
            Model(f"openai:{name}", provider.base_url, price=Price(input=0, output=0))
            for name in ("dead", "spare")
        )
        clerk = llm_agent(
            "clerk", model=dead, fallbacks=[spare], input=int, output=str, instructions="", retry=ONCE
        )
        runs = broken(desk, clerk, 5)

    # Then three calls are enough to know
    assert [desk.view(run).output for run in runs] == 5 * ["fine"]
    assert [one.model for one in provider.log] == 3 * ["dead", "spare"] + 2 * ["spare"]


def test_the_next_tool_of_a_chain_answers_while_a_circuit_is_open(desk: Desk) -> None:
    tried: list[str] = []

    @tool(breaker=TWO)
    async def far(query: str) -> str:
        tried.append("far")
        raise ValueError("down")

    @tool(fallback=far)
    async def near(query: str) -> str:
        raise ToolError("nothing here")

    @agent(retry=ONCE)
    async def searcher(ctx: Context, query: str) -> str:
        return str(await ctx.use(near, query=query))

    broken(desk, searcher, 4, "tides")

    assert tried == ["far", "far"]


# --- agents ---------------------------------------------------------------------------------------------------------


def test_an_agent_that_keeps_failing_is_not_tried_and_its_fallback_answers(desk: Desk) -> None:
    tried: list[int] = []

    @agent(retry=ONCE, breaker=TWO, fallback=[0])
    async def frail(number: int) -> list[int]:
        tried.append(number)
        raise ValueError("down")

    @agent
    async def total(numbers: list[int]) -> int:
        return sum(numbers) + 1

    _, second = [desk.start(frail, total, value=1) for _ in range(2)]
    assert len(warnings(desk, second)) == 1
    third = desk.start(frail, total, value=1)

    assert tried == [1, 1]
    assert desk.end(third).output == 1
    assert desk.view(third).degraded
    assert_told(desk, third)
    assert (
        desk.views.run_at(third, len(desk.events(third))).degraded if hasattr(desk.views, "run_at") else True
    )
    assert "its fallback has answered: the circuit of agent frail is open" in warnings(desk, third)[0]


def test_agents_in_threads_have_circuits_as_well(desk: Desk) -> None:
    @agent(retry=ONCE, breaker=TWO, fallback=-1)
    def frail(number: int) -> int:
        raise ValueError("down")

    broken(desk, frail)

    assert desk.end(desk.start(frail, value=1)).output == -1


def test_an_open_circuit_leads_to_the_other_agent_at_once(desk: Desk) -> None:
    @agent(retry=Retry(max=5, base=60), breaker=TWO)
    async def frail(number: int) -> int:
        raise ValueError("down")

    @agent
    async def sound(number: int) -> int:
        return number

    desk.agents |= {"frail": frail, "sound": sound}
    broken(desk, frail)
    run = desk.submit(workflow("w", frail.otherwise(sound)), 7)
    desk.work()

    assert desk.end(run).output == 7
    alone = desk.submit(workflow("w", frail.part), 7)
    desk.work()
    assert desk.states(alone) == {"0": "ready"}  # nobody takes its place, so it waits


def test_what_fails_for_good_is_about_the_input_and_not_about_the_agent(desk: Desk) -> None:
    @agent(retry=ONCE, breaker=TWO)
    async def picky(number: int) -> int:
        if number:
            raise Permanent("not this")
        return number

    broken(desk, picky, 4)

    assert desk.end(desk.start(picky, value=0)).output == 0


@pytest.mark.parametrize(
    "options", [{"fallback": 1}, {"breaker": TWO, "fallback": "x"}, {"breaker": TWO, "fallback": caller}]
)
def test_a_fallback_that_cannot_answer_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="fallback"):

        @agent(**options)
        async def frail(number: int) -> int:
            return number


def test_agents_without_a_breaker_ask_nobody(desk: Desk, broker: str) -> None:
    @agent(retry=ONCE)
    async def plain(ctx: Context, number: int) -> int:
        return int(await use(ctx, "bell", (), number))

    desk.start(plain, value=1)

    with redis.Redis.from_url(broker) as client:
        assert client.keys("baton.breaker*") == []


# --- with real workers ----------------------------------------------------------------------------------------------


def test_workers_share_circuits_and_a_redis_that_forgets_closes_them(alone: Stack) -> None:
    for _ in range(2):
        alone.begin("fragile", "idler", BATON_APP=calling.__name__)
    for _ in range(4):
        with pytest.raises(Exception, match="down"):
            alone.run(calling.fragile_run, 1)
    assert alone.run(calling.fragile_run, 7) == -1

    alone.redis().flushdb()

    eventually(lambda: alone.run(calling.fragile_run, 7) == 7, timeout=20)
