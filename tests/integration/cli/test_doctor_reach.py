"""`baton doctor` looks whether what agents need from outside is there: keys of models, MCP servers."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from orchestrator.doctor import reach
from orchestrator.doctor.finding import Finding
from orchestrator.loading import Loaded
from schemas import Price
from tests.architecture.house import ROOT
from workers import Model, agent, llm_agent
from workers.tools import mcp_tools

KEY = "sk-never-shown-0123456789"


def clerk(name: str = "clerk", model: Any = "openai:gpt-5-mini", **options: Any) -> Any:
    return llm_agent(name, model=model, input=str, output=str, instructions="", **options)


def found(*agents: Any) -> list[Finding]:
    return list(reach.check(Loaded((), agents={one.name: one for one in agents})))


def told(*agents: Any, but: str = "price") -> list[tuple[str, str, str, str]]:
    return [(str(one.level), one.check, one.sentence, one.fix) for one in found(*agents) if one.check != but]


def test_keys_are_looked_for_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LOCAL_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    free = Price(input=0, output=0)
    local = Model("openai:qwen3", "http://localhost:1/v1", key="LOCAL_KEY", price=free)
    open_to_all = Model("openai:qwen4", "http://localhost:1/v1", price=free)

    @agent
    async def plain(text: str) -> str:
        return text

    first = clerk(fallbacks=["anthropic:claude-haiku-4-5", open_to_all])
    assert told(first, clerk("other"), clerk("third", local), plain) == [
        ("warn", "model", "OPENAI_API_KEY is not set here, so openai:gpt-5-mini cannot be asked;"
         " agents clerk, other need it.", "set OPENAI_API_KEY in the environment of its workers"),
        ("ok", "model", "What anthropic:claude-haiku-4-5 wants is set, ANTHROPIC_API_KEY.", ""),
        ("warn", "model", "LOCAL_KEY is not set here, so openai:qwen3 cannot be asked; agent third needs it.",
         "set LOCAL_KEY in the environment of its workers"),
    ]  # fmt: skip
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert {level for level, *_ in told(first)} == {"ok"}
    assert KEY not in str(told(first))


def test_a_model_of_which_nobody_knows_what_it_costs_is_told() -> None:
    said = Model("anthropic:claude-99-mega", price=Price(input=1, output=1))

    assert told(clerk(fallbacks=["anthropic:claude-99-mega"]), clerk("other", said), but="model") == [
        ("ok", "price", "The price of openai:gpt-5-mini is known.", ""),
        ("warn", "price", "the price of anthropic:claude-99-mega is not known; agent clerk needs it.",
         "mend its name, or say it, price=Price(input=..., output=...)"),
    ]  # fmt: skip


def test_an_environment_without_the_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "workers.models.clients", None)

    ((_, _, sentence, fix),) = told(clerk(), but="model")
    assert "is missing here, so openai:gpt-5-mini cannot be asked; agent clerk needs it." in sentence
    assert fix == "pip install 'baton-agents[llm]'"


def test_a_server_that_answers_tells_its_tools() -> None:
    server = mcp_tools("served", command=(sys.executable, "-m", "tests.agents.served"), cwd=str(ROOT))
    both = mcp_tools("served", command=server.place.command, cwd=str(ROOT), only=["add", "say"], prefix="")
    missing = mcp_tools("served", command=server.place.command, cwd=str(ROOT), only=["sub"])
    model = Model("openai:qwen3", "http://localhost:1/v1", price=Price(input=0, output=0))

    (two,) = told(clerk(model=model, tools=[both]))
    assert two == ("ok", "mcp", "The MCP server served answers, with 2 tools: add, say.", "")
    (lacks,) = told(clerk(model=model, tools=[missing]))
    assert lacks[0] == "warn"
    assert "does not offer sub" in lacks[2]


def test_a_server_that_cannot_be_reached_is_named_with_what_mends_it() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/mcp"
    model = Model("openai:qwen3", "http://localhost:1/v1", price=Price(input=0, output=0))
    gone, absent = (
        mcp_tools("docs", url=f"{url}?token=abc"),
        mcp_tools("files", command=["no-such-server", "-v"]),
    )

    first, second = told(clerk(model=model, tools=[gone, absent]))

    assert first[:2] == second[:2] == ("warn", "mcp")
    assert first[2].startswith("the MCP server docs cannot be reached: ")
    assert first[2].endswith("; agent clerk needs it.")
    assert first[3] == f"start the server at {url}, or mend its url or key"
    assert second[2:] == (
        "no-such-server, which is the MCP server files, is not installed here; agent clerk needs it.",
        "try by hand: no-such-server -v",
    )
    assert "abc" not in first[2] + first[3]
