"""Crews of CrewAI as agents: in the environment that `make` gives them, against the scripted provider."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from schemas import RunState
from schemas.errors import DefinitionError, Permanent
from tests.architecture.house import ROOT
from tests.integration.adapters.shop import PRICE, SECRET, Shop, Ticket, Verdict, of, provided
from tests.integration.adapters.shop import shop as shop
from tests.support import eventually
from workers import Agent, Context, Retry
from workers.adapters import crewai
from workers.adapters.crewai_agent import HOST
from workers.loop import LoopThread
from workers.scripted import ScriptedProvider, answer, call, refuse, text

PYTHON = str(ROOT / ".venv-crewai" / "bin" / "python")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SCRIPTED_KEY", SECRET)
    monkeypatch.setenv("TEST_PIDS", str(tmp_path / "pids"))
    monkeypatch.setenv("BATON_DATABASE_URL", "postgresql://secret")


def at(provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> ScriptedProvider:
    monkeypatch.setenv("TEST_PROVIDER", provider.base_url)
    return provider


def router(target: str, **options: Any) -> Agent:
    given: dict[str, Any] = {"input": Ticket, "output": Verdict, "price": PRICE, "retry": Retry(max=0)}
    return crewai("router", target, python=PYTHON, **(given | options))


def test_a_crew_with_a_tool_is_counted_and_gated(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with at(provided([call("look_up", customer="ann"), text('{"team": "fire"}')]), monkeypatch) as provider:
        end = shop.ask(router("tests.agents.crews:plain"))

    assert end.output == {"team": "fire", "urgent": False}
    assert "The printer is on fire" in provider.log[0].said
    assert "ann has printers" in provider.log[1].said
    assert shop.spent == of(provider)
    assert [one.name for one in shop.gate.passed] == ["openai:scripted"] * 2
    assert shop.gate.ended == ["well", "well"]
    assert shop.told() == [{"agent": "clerk"}, {"tool": "look_up"}]
    assert shop.said == [{"agent": "clerk", "text": '{"team": "fire"}'}]


def test_a_typed_task_gives_the_output_and_sees_no_environment_of_baton(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at(provided(lambda asked: answer({"team": "fire", "urgent": True})), monkeypatch):
        end = shop.ask(router("tests.agents.crews:typed", result=lambda ended: ended["typed"]))

    assert end.output == {"team": "fire", "urgent": True}


def test_a_call_that_a_gate_refuses_is_not_made(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.gate.refuse = Permanent("the budget is used up")
    with at(provided([text("fire")]), monkeypatch) as provider:
        end = shop.ask(router("tests.agents.crews:plain"))

    assert (end.state, shop.failure, provider.log) == (RunState.FAILED, "the budget is used up", [])


def test_a_refusal_of_the_provider_ends_for_good_and_tells_no_credential(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at(provided([refuse(401, f"bad key {SECRET}")]), monkeypatch) as provider:
        shop.ask(router("tests.agents.crews:plain", retry=Retry(max=3)))

    assert len(provider.log) == 1
    assert "bad key <SCRIPTED_KEY>" in shop.failure


def gone(pids: Path) -> None:
    assert [pid for pid in map(int, pids.read_text().split()) if psutil.pid_exists(pid)] == []


def begun(pids: Path) -> None:
    assert len(pids.read_text().split() if pids.exists() else []) == 2


def context() -> Context:
    return Context(uuid4(), "0", 1, "w", "default", {}, None, deadline=math.inf)


def test_a_crew_that_is_cancelled_is_killed_with_what_it_has_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with at(provided([call("wait", seconds=60)]), monkeypatch):
        agent = router("tests.agents.crews:slow")
        running = LoopThread().submit(agent.invoke(context(), Ticket(text="late")))
        eventually(lambda: begun(tmp_path / "pids"), timeout=60)

        running.cancel()

        eventually(lambda: gone(tmp_path / "pids"))


def test_a_crew_ends_with_its_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given a crew under way for somebody
    with at(provided([call("wait", seconds=60)]), monkeypatch):
        crew = subprocess.Popen(
            [PYTHON, str(HOST), "tests.agents.crews:slow"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with crew:
            assert crew.stdin is not None
            crew.stdin.write('{"text": "late"}\n{"go": 1}\n')
            crew.stdin.flush()
            eventually(lambda: begun(tmp_path / "pids"), timeout=60)

            # When they are gone, and with them their end of the pipe
            crew.stdin.close()

            # Then it is gone, and what it had started
            crew.wait(10)
            eventually(lambda: gone(tmp_path / "pids"))


def test_what_becomes_no_crew_says_why(shop: Shop) -> None:
    shop.ask(router("tests.agents.no_crews:broken"))
    assert shop.failure == "ValueError: no crew today"
    shop.ask(router("tests.agents.no_crews:dying"))
    assert shop.failure == "the process of the crew has ended with 7: see the worker's log"
    shop.ask(router("tests.agents.no_crews:nowhere"))
    assert "no attribute 'nowhere'" in shop.failure


def test_an_environment_that_is_not_there_is_one_sentence_and_a_command(shop: Shop) -> None:
    agent = crewai(
        "router", "tests.agents.crews:plain", input=Ticket, output=Verdict, python="nowhere/python"
    )
    shop.ask(agent)
    assert shop.failure == (
        "there is no nowhere/python, which is to run CrewAI:"
        " python -m venv .venv-crewai && .venv-crewai/bin/pip install crewai"
    )
    with pytest.raises(DefinitionError, match="write MODULE:NAME"):
        router("crew")
