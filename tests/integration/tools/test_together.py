"""The tools that come along, called by a model agent as its own are: offered, checked, kept, timed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import RunState
from tests.architecture.house import ROOT
from tests.integration.tools.test_mcp import begun
from tests.integration.tools.test_mcp import log as log
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import ask, provided, told, writer
from tests.integration.worker.test_thinking import desk as desk
from workers.scripted import answer, call
from workers.tools import http_fetch, list_files, mcp_tools, read_file

COMMAND = (sys.executable, "-m", "tests.agents.served")


def test_a_model_uses_them_like_all_others(desk: Desk, tmp_path: Path, log: Path) -> None:
    (tmp_path / "a.md").write_text("# Tides")
    script = [
        call("list_files"),
        call("read_file", path="../a.md"),
        call("read_file", path="a.md"),
        call("docs_add", a="one", b=2),
        call("docs_add", a=1, b=2),
        call("docs_fail", reason="no luck"),
        answer({"lines": ["ok"]}),
    ]
    env = ["TEST_SERVED_LOG"]
    served = mcp_tools("docs", command=COMMAND, cwd=str(ROOT), env=env, only=["add", "fail"])
    tools = [list_files(tmp_path), read_file(tmp_path), served]
    with provided(script) as provider:
        run = ask(desk, writer(provider, tools=tools, corrections=5))

    os.kill(*begun(log), signal.SIGKILL)  # the loop of this process goes on after the test
    assert desk.end(run).output == {"lines": ["ok"]}
    assert {"list_files", "read_file", "docs_add", "docs_fail"} == set(provider.log[0].tools) - {
        "final_result"
    }
    heard = ["a.md", "never leads up", "# Tides", "a: ", "sum", "no luck"]
    for turn, said in enumerate(heard, start=1):
        assert said in told(provider, turn), turn


def test_a_server_that_says_nothing_takes_its_time_only(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        fetch = http_fetch([f"127.0.0.1:{port}"], private=True, timeout=0.1)
        script = [call("http_fetch", url=f"http://127.0.0.1:{port}/"), answer({"lines": []})]
        with provided(script) as provider:
            run = ask(desk, writer(provider, tools=[fetch]))

    assert desk.end(run).state == RunState.COMPLETED
    assert "took longer than 0.1 s" in told(provider, 1)


def test_a_server_that_cannot_be_started_fails_the_attempt(desk: Desk) -> None:
    with provided([answer({"lines": []})]) as provider:
        run = ask(desk, writer(provider, tools=[mcp_tools("docs", command=["no-such-program"])]))

    end = desk.end(run)
    assert (end.state, len(provider.log)) == (RunState.FAILED, 0)
    assert "is not installed here" in str(end.error)


@pytest.mark.parametrize("lazy", ["mcp", "httpx", "httpx2", "pydantic_monty"])
def test_their_libraries_are_loaded_only_where_they_are_used(lazy: str) -> None:
    code = f"import sys; from workers.tools import *; sys.exit({lazy!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_a_worker_whose_agents_have_none_of_them_loads_none() -> None:
    code = "import sys, workers.app; print(*sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        timeout=60,
        capture_output=True,
        text=True,
        env=environment
        | {"BATON_DATABASE_URL": "postgresql://nowhere", "BATON_BROKER_URL": "redis://nowhere"},
    )
    lazy = ("workers.tools.builtin", "workers.tools.mcp")
    assert [name for name in found.stdout.split() if name.startswith(lazy)] == []
