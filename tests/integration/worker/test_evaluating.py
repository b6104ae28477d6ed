"""`baton eval` and `baton eval route` on the example, with real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from examples import support_triage
from orchestrator.cli.app import app
from orchestrator.evaluation.running import Evaluator
from schemas.settings import settings
from tests.integration.worker.stack import Stack

APP = "examples.support_triage"
CASES = str(Path(support_triage.__file__).parent / "cases.jsonl")
CHECK = f"{APP}:well_answered"
DESKS = ("classify", "billing", "technical", "key_account", "person", "shorten")


@pytest.fixture
def stack(alone: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Servers that the commands find, and no worker yet."""
    monkeypatch.setenv("BATON_DATABASE_URL", alone.database_url)
    monkeypatch.setenv("BATON_BROKER_URL", alone.broker_url)
    monkeypatch.setenv("BATON_APP", APP)
    settings.cache_clear()
    yield alone
    settings.cache_clear()


def baton(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def told(*words: str, code: int = 0) -> Any:
    return json.loads(baton(*words, "--json", code=code).stdout)


def test_the_example_is_evaluated(stack: Stack, tmp_path: Path) -> None:
    stack.worker(*DESKS, concurrency=8, BATON_APP=APP)

    # The router: rules without a run, the classifier in runs of its own
    router = told("eval", "route", "triage", CASES, "--name", "desk")
    assert router["step"] == "0/*/0"
    assert router["accuracy"] == pytest.approx(10 / 12)
    assert {one["id"] for one in router["results"] if not one["right"]} == {"mixed", "policy"}
    assert [one["name"] for one in router["deciders"]] == [
        "rule enterprise",
        "rule refund",
        "agent",
        "fallback",
    ]
    asked = [one for one in router["results"] if one["by"] != "rule"]
    listed = told("runs", "ls", "--label", "evaluation=desk")
    assert {one["id"] for one in listed} == {one["run"] for one in asked}
    assert {one["workflow"] for one in listed} == {"triage.classify.eval"}

    # Whole answers; under the same name nothing is run again
    whole = told("eval", "ticket", CASES, "--check", CHECK, "--name", "answers", "--label", "team=support")
    assert whole["measured"]["endings"] == {"scored": 12, "failed": 0, "check_error": 0, "unfinished": 0}
    assert whole["measured"]["scores"] == {"desk": pytest.approx(10 / 12), "brief": 1.0}
    assert whole["measured"]["p95"] >= whole["measured"]["p50"] > 0
    assert told("eval", "ticket", CASES, "--check", CHECK, "--name", "answers") == whole
    assert len(told("runs", "ls", "--label", "team=support")) == 12

    # For people, and for whoever wants to stop a build
    table = baton(
        "eval", "ticket", CASES, "--check", CHECK, "--name", "answers", "--at-least", "0.95", code=1
    )
    assert "quality       0.917" in table.stdout
    assert "desk 0" in table.stdout
    assert "quality 0.917 is less than 0.95" in table.stderr
    shown = baton("eval", "route", "triage", CASES, "--name", "desk", "--at-least", "0.8").stdout
    assert "rule refund" in shown
    assert "rule 'refund' holds" in shown

    # Another definition of the same, which is stored as soon as one run of it has started
    before = tmp_path / "before.py"
    before.write_text(
        "from examples.support_triage import *\n"
        "from orchestrator import loop, route, workflow\n"
        "only_by_agent = route(billing, technical, key_account, by=classify, threshold=0.6, fallback=person)\n"
        "brief = loop(shorten, until='size(output.text) <= 160').when('size(input.text) > 160')\n"
        "ticket = workflow('ticket', only_by_agent >> brief, version=2)\n"
        "triage = None\n"
    )
    new = told(
        "eval", "ticket", CASES, "--check", CHECK, "--name", "new", "--against", "1", "--app", str(before)
    )
    assert (new["measured"]["version"], new["against"]["version"]) == (2, 1)
    assert new["against"]["quality"] == pytest.approx(11 / 12)
    assert "policy" in {one["id"] for one in new["comparison"]["better"]}
    assert "enterprise" in {one["id"] for one in new["comparison"]["worse"]}


def test_what_cannot_be_evaluated_is_said_before_anything_runs(stack: Stack, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        '{"input": {"subject": "x"}, "expected": "billing"}\n{"input": 3, "expected": "billing"}\nno\n'
    )

    for words, sentences in (
        (
            ["ticket", str(bad), "--check", CHECK],
            ["line 1: input: ", "line 2: input: ", "line 3: it is no JSON"],
        ),
        (["route", "triage", str(bad)], ["line 1: input: ", "line 2: input: ", "line 3: it is no JSON"]),
        (["ticket", "no-file"], ["The input file 'no-file' cannot be read"]),
        (["ticket", CASES, "--check", "nowhere:right"], ["There is no module 'nowhere'"]),
        (["ticket", CASES, "--against", "7"], ["No version 7 of 'ticket' is stored; stored: none."]),
        (["ticket", CASES, "--against", "ticket"], ["is the very definition that is evaluated"]),
        (["tickte", CASES], ["did you mean 'ticket'?"]),
        (["route", "triage", CASES, "--step", "0"], ["is no router; there are routers at 0/*/0"]),
        (["ticket", CASES, "--label", "x"], ["'x' is not NAME=VALUE"]),
    ):
        refused = baton("eval", *words, code=1)
        for sentence in sentences:
            assert sentence in refused.stderr
    assert told("runs", "ls") == []


def test_whoever_interrupts_an_evaluation_is_told_how_to_go_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Evaluator, jobs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "run", interrupted)
    stopped = baton("eval", "ticket", CASES, "--check", CHECK, "--name", "nightly", code=130)

    assert "Its runs go on. Go on with it: the same, with --name nightly" in stopped.stderr


def test_a_strict_run_that_could_exceed_its_budget_does_not_start(stack: Stack) -> None:
    line = ("run", "line", '{"text": "x"}', "--app", "tests.unit.cli.apps")
    refused = baton(*line, "--strict", code=1)

    assert (
        "Workflow 'line' may not start strictly: nobody knows how many tokens it can take" in refused.stderr
    )
    assert "next:  baton plan line" in refused.stderr
    assert told("runs", "ls") == []
    baton(*line)
    assert len(told("runs", "ls")) == 1


def test_a_stored_version_can_be_shown(stack: Stack) -> None:
    stack.client.register(support_triage.ticket)

    assert told("workflows", "ls", "--app", "")[0]["id"] == support_triage.ticket.id
    shown = json.loads(baton("workflows", "show", "ticket", "--version", "1").stdout)
    assert shown == support_triage.ticket.model_dump(mode="json")
    assert "stored: 1." in baton("workflows", "show", "ticket", "--version", "2", code=1).stderr
