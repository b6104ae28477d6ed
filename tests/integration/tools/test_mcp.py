"""Tools of MCP servers: real ones, as processes of their own, on stdio and over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from schemas import Breaker, Limit
from schemas.errors import AgentError, DefinitionError, Permanent, ToolError
from schemas.tools import Risk
from tests.architecture.house import ROOT
from tests.integration.tools.using import KEY, used
from tests.support import Process, Processes, eventually
from workers.tools import mcp_tools
from workers.tools.declared import Tool, schema_tool
from workers.tools.mcp.declared import McpTools

T = TypeVar("T")
COMMAND = (sys.executable, "-m", "tests.agents.served")


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers write down that they begin. Nothing of them is left after a test."""
    found = tmp_path / "served"
    monkeypatch.setenv("TEST_SERVED_LOG", str(found))
    return found


def begun(log: Path) -> list[int]:
    """The servers that have begun, by their process ids."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def on_stdio(**options: Any) -> McpTools:
    env = ("TEST_SERVED_LOG", *options.pop("env", ()))
    return mcp_tools("served", **({"command": COMMAND, "cwd": str(ROOT), "env": env} | options))


def together(work: Callable[[dict[str, Tool]], Awaitable[T]], toolset: McpTools) -> T:
    """Do this with the tools of a server, on one event loop."""

    async def done() -> T:
        return await work({tool.name: tool for tool in await toolset.tools()})

    return asyncio.run(done())


def use(toolset: McpTools, name: str, **arguments: Any) -> Any:
    async def once(tools: dict[str, Tool]) -> Any:
        return await used(tools[name], **arguments)

    return together(once, toolset)


# --- what they are --------------------------------------------------------------------------------------------


def test_an_agent_gets_what_it_is_allowed_of_a_server_that_is_started_when_it_looks(log: Path) -> None:
    risks: dict[str, Risk] = {"say": "high"}
    toolset, few = on_stdio(), on_stdio(only=["add", "say"], prefix="", risk=risks, timeout=7)
    none = on_stdio(only=["sub"])
    assert begun(log) == []

    async def look(tools: dict[str, Tool]) -> None:
        assert {"served_add", "served_say", "served_odd_name_of_it"} <= set(tools)
        add, say = tools["served_add"].spec, tools["served_say"].spec
        assert (add.description, add.risk, add.idempotent) == ("Add two numbers.", "low", True)
        assert set(add.parameters["properties"]) == {"a", "b"}
        assert (say.risk, say.idempotent, tools["served_key"].spec.idempotent) == ("medium", False, True)

        fewer = {tool.name: tool.spec for tool in await few.tools()}
        assert sorted(fewer) == ["add", "say"]
        assert (fewer["say"].risk, fewer["add"].risk, fewer["add"].timeout) == ("high", "low", 7)
        with pytest.raises(Permanent, match=r"does not offer sub: it offers .*add"):
            await none.tools()

    together(look, toolset)
    assert len(begun(log)) == 1


def test_its_tools_pass_the_gates_that_others_pass(log: Path) -> None:
    gates: dict[str, Any] = {"limits": [Limit(concurrency=2)], "breaker": Breaker(minimum=3), "cache": 60}
    toolset = on_stdio(**gates)

    async def look(tools: dict[str, Tool]) -> None:
        add, say = tools["served_add"].spec, tools["served_say"].spec
        assert add.limits == say.limits == (Limit(concurrency=2),)
        assert add.breaker == say.breaker == Breaker(minimum=3)
        assert (add.cache, say.cache) == (60, None)  # what is said to change something is done each time
        assert (
            tools["served_add"].made_of
            != {one.name: one for one in await other.tools()}["served_add"].made_of
        )

    other = on_stdio(**gates, env=["PATH"])
    together(look, toolset)


async def _all(tools: dict[str, Tool]) -> dict[str, Tool]:
    return tools


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"command": COMMAND, "url": "http://x"},
        {"command": "a shell line"},
        {"url": "ftp://x"},
        {"url": "http://me:secret@x"},
        {"command": COMMAND, "key": "TOKEN"},
        {"command": COMMAND, "timeout": 0},
        {"command": COMMAND, "cache": 0},
        {"command": COMMAND, "breaker": "yes"},
        {"command": COMMAND, "limits": Limit(concurrency=1)},
        {"command": COMMAND, "server": "no name"},
    ],
)
def test_a_definition_with_faults_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="MCP server"):
        mcp_tools(**({"server": "served"} | options))


# --- calls ----------------------------------------------------------------------------------------------------


def test_answers_are_data_or_text_and_errors_are_told() -> None:
    async def all_of_it(tools: dict[str, Tool]) -> None:
        assert await used(tools["served_add"], a=1, b=2) == {"sum": 3}
        assert await used(tools["served_say"], text="grüße") == "grüße"
        assert await used(tools["served_say"], text="a\0b") == "a\N{REPLACEMENT CHARACTER}b"
        assert await used(tools["served_key"]) == {"result": KEY}
        with pytest.raises(ToolError, match="no such luck"):
            await used(tools["served_fail"], reason="no such luck")
        with pytest.raises(ToolError, match="a: "):
            await used(tools["served_add"], a="one", b=2)
        with pytest.raises(ToolError, match="required"):
            await used(tools["served_add"], a=1)
        with pytest.raises(ToolError, match="ask for less"):
            await used(tools["served_say"], text="x" * 1_000)

    together(all_of_it, on_stdio(max_bytes=500))


def test_a_server_sees_only_the_environment_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SECRET", "secret")
    monkeypatch.setenv("TEST_GIVEN", "given")

    names = ["TEST_SECRET", "TEST_GIVEN", "BATON_DATABASE_URL"]
    found = use(on_stdio(env=("TEST_GIVEN",)), "served_whoami", names=names)

    assert found["env"] == {"TEST_SECRET": None, "TEST_GIVEN": "given", "BATON_DATABASE_URL": None}
    with pytest.raises(Permanent, match="TEST_MISSING is not set"):
        use(on_stdio(env=("TEST_MISSING",)), "served_whoami", names=[])


def test_one_server_serves_all_agents_of_a_worker(log: Path) -> None:
    async def many(tools: dict[str, Tool]) -> None:
        again = {tool.name: tool for tool in await on_stdio(only=["add"], prefix="other_").tools()}
        sums = [used(one, a=n, b=n) for n in range(20) for one in (tools["served_add"], again["other_add"])]
        assert [one["sum"] for one in await asyncio.gather(*sums)] == [2 * (n // 2) for n in range(40)]

        with pytest.raises(TimeoutError):  # one that is given up leaves the others alone
            async with asyncio.timeout(0.1):
                await used(tools["served_wait"], seconds=60)
        assert await used(tools["served_add"], a=1, b=1) == {"sum": 2}

    together(many, on_stdio())

    assert len(begun(log)) == 1
    eventually(lambda: not _alive(begun(log)[0]))  # it ends with the event loop


def test_a_schema_cannot_make_the_worker_read_files_or_ask_servers(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "string"}')
    there = {"type": "object", "properties": {"a": {"$ref": (tmp_path / "schema.json").as_uri()}}}

    with pytest.raises(DefinitionError, match=r"schema\.json"):
        schema_tool("odd", print, parameters=there)


# --- servers that mean harm -----------------------------------------------------------------------------------

HOSTILE = """
import json, sys
how = sys.argv[1]
tool = {"name": "t", "description": "d", "inputSchema": {"type": "object"}}
offered = {"many": [tool | {"name": f"t{n}"} for n in range(501)], "told": [tool | {"description": "x" * 60_000}],
           "schema": [tool | {"inputSchema": {"type": "object", "title": "x" * 60_000}}]}.get(how, [tool])
for line in sys.stdin:
    asked = json.loads(line)
    match asked.get("method"):
        case "initialize":
            said = {"result": {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                               "serverInfo": {"name": "hostile", "version": "1"}}}
        case "tools/list" if how == "list":
            said = {"error": {"code": -32603, "message": "x" * 1_000_000}}
        case "tools/list":
            said = {"result": {"tools": offered}}
        case "tools/call" if how == "blocks":
            said = {"result": {"content": [{"type": "odd"}] * 1_000}}
        case "tools/call":
            said = {"error": {"code": {"fails": -32603}.get(how, -32602), "message": "x" * 1_000_000}}
        case _:
            said = {"error": {"code": -32601, "message": "unknown"}}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"]} | said), flush=True)
"""


def hostile(how: str, **options: Any) -> McpTools:
    return mcp_tools("hostile", command=[sys.executable, "-c", HOSTILE, how], **options)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("many", "offers 501 tools, and an agent is given 500 at most"),
        ("told", "describes its tool t with 600.. characters"),
        ("schema", "describes its tool t with 600.. characters"),
    ],
)
def test_what_is_offered_is_not_more_than_a_model_can_be_told(how: str, reason: str) -> None:
    with pytest.raises(Permanent, match=reason):
        together(_all, hostile(how))


def test_of_many_tools_an_agent_may_have_some() -> None:
    assert sorted(together(_all, hostile("many", only=["t7", "t500"]))) == ["hostile_t500", "hostile_t7"]


@pytest.mark.parametrize("how", ["list", "fails", "refuses", "blocks"])
def test_what_a_server_says_of_its_errors_is_told_in_short(how: str) -> None:
    with pytest.raises(AgentError, match=r"has failed|refuses|does not declare") as told:
        use(hostile(how), "hostile_t")

    assert len(str(told.value)) < 2_200


# --- servers that end -----------------------------------------------------------------------------------------


def test_a_server_that_dies_fails_its_call_and_is_started_again(log: Path) -> None:
    async def killed(tools: dict[str, Tool]) -> None:
        beside = asyncio.create_task(used(tools["served_wait"], seconds=60))
        await used(tools["served_add"], a=1, b=1)
        with pytest.raises(AgentError, match="is gone") as gone:
            await used(tools["served_die"])
        assert not isinstance(gone.value, ToolError)
        with pytest.raises(AgentError, match="is gone"):
            await beside
        assert await used(tools["served_add"], a=1, b=1) == {"sum": 2}

    together(killed, on_stdio())

    assert len(begun(log)) == 2


def test_a_server_that_died_meanwhile_is_not_noticed(log: Path) -> None:
    async def killed(tools: dict[str, Tool]) -> None:
        (pid,) = begun(log)
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(eventually, lambda: not _alive(pid))
        await asyncio.sleep(0.05)  # the end of its output is read
        assert await used(tools["served_add"], a=1, b=1) == {"sum": 2}

    together(killed, on_stdio())


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_server_that_cannot_be_started_is_told_of() -> None:
    with pytest.raises(AgentError, match="no-such-program, which is the MCP server served, is not installed"):
        together(_all, mcp_tools("served", command=["no-such-program"]))
    for code in ("pass", "print('no JSON')"):
        with pytest.raises(AgentError, match="cannot be reached"):
            together(_all, mcp_tools("served", command=[sys.executable, "-c", code]))


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.tools.mcp import session

    monkeypatch.setattr(session, "OPENING", 0.3)

    with pytest.raises(AgentError, match=r"said nothing for 0\.3 s"):
        together(_all, mcp_tools("served", command=["sleep", "60"]))


HOLD = """
import asyncio, sys
from tests.integration.tools.test_mcp import on_stdio
async def hold():
    await on_stdio(env=("TEST_STUBBORN",)).tools()
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(hold())
"""


def test_no_server_is_left_when_its_worker_is_killed(processes: Processes, log: Path) -> None:
    holder = processes.python(HOLD, env={"TEST_STUBBORN": "1", "PYTHONPATH": str(ROOT)})
    eventually(lambda: "ready" in holder.text(), timeout=60)
    (pid,) = begun(log)
    assert _alive(pid)

    holder.signal(signal.SIGKILL)

    eventually(lambda: not _alive(pid))


# --- over HTTP ------------------------------------------------------------------------------------------------


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Web:
    """The server over HTTP, which can be ended and begun again."""

    def __init__(self, processes: Processes, port: int) -> None:
        self._processes = processes
        self._port = port
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.process: Process
        self.begin()

    def begin(self) -> None:
        env = {"TEST_SERVED_TOKEN": "swordfish", "PYTHONPATH": str(ROOT)}
        self.process = self._processes.start(*COMMAND, str(self._port), name="served", env=env)
        eventually(self._answers, timeout=60)

    def _answers(self) -> None:
        assert self.process.alive, self.process.text()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self._port)) == 0


@pytest.fixture
def web(processes: Processes, port: int, monkeypatch: pytest.MonkeyPatch) -> Web:
    monkeypatch.setenv("TEST_SERVED_TOKEN", "swordfish")
    return Web(processes, port)


def test_a_server_over_http_is_the_same_to_an_agent(web: Web) -> None:
    toolset = mcp_tools("docs", url=web.url, key="TEST_SERVED_TOKEN", only=["add", "key", "fail"])

    async def all_of_it(tools: dict[str, Tool]) -> None:
        assert sorted(tools) == ["docs_add", "docs_fail", "docs_key"]
        assert await used(tools["docs_add"], a=1, b=2) == {"sum": 3}
        assert await used(tools["docs_key"]) == {"result": KEY}
        with pytest.raises(ToolError, match="why not"):
            await used(tools["docs_fail"], reason="why not")

    together(all_of_it, toolset)


def test_a_server_over_http_may_go_and_come_back(web: Web) -> None:
    async def gone(tools: dict[str, Tool]) -> None:
        add = tools["docs_add"]
        web.process.kill()
        with pytest.raises(AgentError) as told:
            await used(add, a=1, b=1)
        assert not isinstance(told.value, ToolError)
        with pytest.raises(AgentError, match="cannot be reached"):
            await used(add, a=1, b=1)
        await asyncio.to_thread(web.begin)
        assert await used(add, a=1, b=1) == {"sum": 2}

    together(gone, mcp_tools("docs", url=web.url, key="TEST_SERVED_TOKEN"))


def test_without_its_credential_nothing_is_let_through(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AgentError, match="cannot be reached") as told:
        together(_all, mcp_tools("docs", url=web.url))
    assert "swordfish" not in str(told.value)

    monkeypatch.delenv("TEST_SERVED_TOKEN")
    with pytest.raises(Permanent, match="TEST_SERVED_TOKEN is not set"):
        together(_all, mcp_tools("docs", url=web.url, key="TEST_SERVED_TOKEN"))
