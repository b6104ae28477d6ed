"""Of equal calls one is made, in the whole cluster, and its result answers others for a while."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.definitions.vocabulary import workflow
from orchestrator.identify import new_id
from orchestrator.tool_calls.cache import Hit, Mine, ToolCache
from tests.integration.tools.test_calling import end, log, plain
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import desk as desk
from tests.support import Process, Processes, eventually
from workers import Context, Retry, Tool, ToolCall, ToolError, agent, tool
from workers.tools import read_file
from workers.tools.flights import key_of
from workers.tools.identity import made_of


def test_a_result_answers_equal_calls_of_its_tenant(desk: Desk) -> None:
    asked: list[str] = []

    @tool(cache=300)
    async def look(call: ToolCall, query: str, most: int = 3) -> str:
        asked.append(call.tenant)
        return f"{query} for {call.tenant}"

    @tool(cache=300, cache_shared=True)
    async def look_for_all(call: ToolCall, query: str) -> str:
        asked.append(call.tenant)
        return query

    async def act(ctx: Context) -> Any:
        return [await ctx.use(look, query="tides"), await ctx.use(look, most=3, query="tides"),
                await ctx.use(look, query="moon"), await ctx.use(look_for_all, query="tides")]  # fmt: skip

    one = plain(act)
    first = desk.start(one)
    second = desk.submit(workflow("w", one.part), None, tenant="other")
    desk.work()

    assert end(desk, first)[0] == "tides for default"
    assert end(desk, second)[0] == "tides for other"
    assert asked == ["default", "default", "default", "other", "other"]
    assert [call.cached for call in log(desk, first)] == [False, True, False, False]
    assert [call.cached for call in log(desk, second)] == [False, True, False, True]


def test_tools_of_one_name_that_are_not_the_same_do_not_answer_for_each_other(desk: Desk) -> None:
    @tool(name="look", cache=300)
    async def look_for_people(number: int) -> str:
        return f"person {number}"

    @tool(name="look", cache=300)
    async def look_for_places(number: int) -> str:
        return f"place {number}"

    runs = [desk.start(plain(lambda ctx, one=one: ctx.use(one, number=7), f"agent-{number}"))
            for number, one in enumerate([look_for_people, look_for_places])]  # fmt: skip

    assert [end(desk, run) for run in runs] == ["person 7", "place 7"]


def made(site: str, languages: tuple[str, ...] = (), client: Any = None, **options: Any) -> Tool:
    """One of the tools of a factory."""

    @tool(name="look", cache=300, **options)
    async def look(query: str) -> str:
        return f"{query} on {site} in {languages} by {client}"

    return look


def test_tools_of_one_factory_answer_for_each_other_only_if_they_hold_the_same(desk: Desk) -> None:
    tools = [made("a"), made("b"), made("a", ("en",)), made("a"), made("a", client=[1]), made("a", client=[2]),
             made("a", client=[3], version="3")]  # fmt: skip
    runs = [desk.start(plain(lambda ctx, one=one: ctx.use(one, query="tides"), f"agent-{number}"))
            for number, one in enumerate(tools)]  # fmt: skip

    assert [end(desk, run) for run in runs] == [
        "tides on a in () by None",
        "tides on b in () by None",
        "tides on a in ('en',) by None",
        "tides on a in () by None",
        "tides on a in () by [1]",
        "tides on a in () by [1]",  # objects are not compared
        "tides on a in () by [3]",
    ]
    assert [call.cached for run in runs for call in log(desk, run)] == [
        False, False, False, True, False, True, False,
    ]  # fmt: skip


def test_files_of_one_folder_do_not_answer_for_those_of_another(desk: Desk, tmp_path: Path) -> None:
    def read(name: str) -> Any:
        (tmp_path / name).mkdir()
        (tmp_path / name / "note").write_text(name)
        found = read_file(tmp_path / name, cache=300)
        return end(desk, desk.start(plain(lambda ctx: ctx.use(found, path="note"), name)))["text"]

    assert [read("one"), read("two")] == ["one", "two"]


def test_what_a_function_holds_is_told_by_its_values(tmp_path: Path) -> None:
    def outer(value: Any) -> Any:
        def inner(depth: int = 3) -> Any:
            return inner, value

        return inner

    def told(value: Any) -> str:
        return made_of(outer(value))

    same = [7, 1.5, None, True, b"x", (1, (2,)), frozenset({"b", "a"}), tmp_path, Held("x"), print, Held, outer,
            partial(outer, 1), Held("x").method]  # fmt: skip
    assert [told(one) == told(copy.copy(one)) for one in same] == [True] * len(same)
    assert len({told(one) for one in same}) == len(same)
    assert told([1]) == told([2])
    assert told(Held("x")) != told(Held("y"))
    assert told(partial(outer, 1)) != told(partial(outer, 2))
    assert told(Held("x").method) != told(Held("y").method)


@dataclass(frozen=True)
class Held:
    name: str

    def method(self) -> str:
        return self.name


def test_a_result_expires_and_the_next_one_takes_it_away(desk: Desk) -> None:
    asked: list[str] = []

    @tool(cache=300)
    async def look(query: str) -> str:
        asked.append(query)
        return query

    one = plain(lambda ctx: ctx.use(look, query="tides"))
    two = plain(lambda ctx: ctx.use(look, query="moon"), "two")
    end(desk, desk.start(one))
    desk.query("UPDATE tool_cache SET expires_at = now() - interval '1 second'")
    end(desk, desk.start(two))
    assert desk.query("SELECT count(*) FROM tool_cache") == [(1,)]
    end(desk, desk.start(one))

    assert asked == ["tides", "moon", "tides"]


def test_many_agents_of_a_process_that_want_the_same_make_one_call(desk: Desk) -> None:
    asked: list[str] = []

    @tool(cache=300)
    async def look(query: str) -> str:
        asked.append(query)
        await asyncio.sleep(0.05)
        if query == "mars":
            raise ToolError("nothing there")
        return query

    async def act(ctx: Context) -> Any:
        calls = [ctx.use(look, query=query) for query in ["tides", "mars"] for _ in range(20)]
        return [str(one) for one in await asyncio.gather(*calls, return_exceptions=True)]

    run = desk.start(plain(act))

    assert end(desk, run) == 20 * ["tides"] + 20 * ["nothing there"]
    assert sorted(asked) == ["mars", "tides"]
    assert [one.cached for one in log(desk, run)].count(False) >= 2
    # And an error is for those who waited, not for those who come later
    assert end(desk, desk.start(plain(lambda ctx: ctx.use(look, query="mars"), "late", Retry(max=0))))
    assert asked.count("mars") == 2


# --- several processes ------------------------------------------------------------------------------------

CALLER = """
import asyncio, sys, uuid
from pathlib import Path
from orchestrator.store.connect import Pool
from orchestrator.tool_calls.cache import ToolCache
from workers import tool
from workers.hands import Hands
from workers.tools.flights import Flights, key_of

url, log, gate, times = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

@tool(cache=300)
async def look(query: str) -> str:
    return query

async def make():
    with log.open("a") as file:
        file.write("made\\n")
    while not gate.exists():
        await asyncio.sleep(0.01)
    return str(uuid.uuid4())

async def main():
    flights = Flights(ToolCache(Pool(url), lease=0.4), Hands().tools)
    key = key_of(look, {"query": "tides"}, "default")
    calls = [flights.result(look, key, 30, make) for _ in range(times)]
    print("ready", flush=True)
    for one in await asyncio.gather(*calls):
        print("found", one.value, flush=True)

asyncio.run(main())
"""


def callers(processes: Processes, desk: Desk, folder: Path, number: int) -> list[Process]:
    """Processes that make the same call 5 times each."""
    where = (str(folder / "log"), str(folder / "gate"), "5")
    return [processes.python(CALLER, desk.url, *where, name=f"caller{n}") for n in range(number)]


def found(process: Process) -> list[str]:
    return [line.split()[1] for line in process.text().splitlines() if line.startswith("found")]


def test_equal_calls_of_several_processes_are_one(desk: Desk, processes: Processes, tmp_path: Path) -> None:
    all_of_them = callers(processes, desk, tmp_path, 3)
    eventually(lambda: all("ready" in one.text() for one in all_of_them), timeout=30)
    eventually((tmp_path / "log").exists)
    # Longer than a lease: it is renewed
    ((lease,),) = desk.query("SELECT lease_until FROM tool_cache")
    eventually(
        lambda: desk.query("SELECT lease_until > %s + interval '0.8 s' FROM tool_cache", lease) == [(True,)]
    )
    (tmp_path / "gate").touch()

    assert [one.wait(30) for one in all_of_them] == [0, 0, 0]
    assert len({value for one in all_of_them for value in found(one)}) == 1
    assert [len(found(one)) for one in all_of_them] == [5, 5, 5]
    assert (tmp_path / "log").read_text() == "made\n"


def test_when_the_one_that_calls_is_killed_another_takes_over(
    desk: Desk, processes: Processes, tmp_path: Path
) -> None:
    (first,) = callers(processes, desk, tmp_path, 1)
    eventually((tmp_path / "log").exists, timeout=30)
    others = callers(processes, desk, tmp_path, 2)
    eventually(lambda: all("ready" in one.text() for one in others), timeout=30)
    first.kill()

    eventually(lambda: (tmp_path / "log").read_text() == "made\nmade\n", timeout=30)
    (tmp_path / "gate").touch()

    assert [one.wait(30) for one in others] == [0, 0]
    assert len({value for one in others for value in found(one)}) == 1


def test_whoever_comes_back_after_its_lease_changes_nothing(desk: Desk) -> None:
    cache = ToolCache(desk.pool, lease=0.0)
    ghost, heir = cache.look("k", new_id()), cache.look("k", new_id())
    assert isinstance(ghost, Mine)
    assert isinstance(heir, Mine)

    cache.keep(ghost, '"late"', 60)
    cache.keep(heir, '"right"', 60)
    cache.fail(ghost, "later still")
    cache.renew(ghost)

    assert cache.look("k", new_id()) == Hit('"right"')


def test_a_step_that_is_stopped_lets_another_one_call(desk: Desk) -> None:
    asked: list[int] = []

    @tool(cache=300)
    async def look() -> str:
        asked.append(1)
        if len(asked) == 1:
            await asyncio.Event().wait()
        return "found"

    async def body(ctx: Context, value: Any) -> Any:
        return await ctx.use(look)

    run = desk.start(agent(name="slow", timeout=0.1, retry=Retry(max=1, base=0.01))(body))

    assert end(desk, run) == "found"
    assert len(asked) == 2


def test_nobody_waits_longer_for_an_equal_call_than_for_its_own(desk: Desk) -> None:
    assert isinstance(ToolCache(desk.pool).look(key_of(wait_for_me, {}, "default"), new_id()), Mine)

    run = desk.start(plain(lambda ctx: ctx.use(wait_for_me), retry=Retry(max=0)))

    assert "tool wait_for_me took longer than 0.1 s: an equal call, which this one waited for" in end(
        desk, run
    )


@tool(cache=300, timeout=0.1)
async def wait_for_me() -> str:
    return ""
