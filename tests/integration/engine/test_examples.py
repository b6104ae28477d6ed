"""The examples of supervisors and debates on their real inputs, with their real agents, through the engine."""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

from examples import contract_risk, research_report
from orchestrator.engine import Claimed
from schemas import AgentError
from schemas.events import EventKind
from schemas.workflows import Workflow
from tests.integration.engine.bench import Bench, Boom
from workers.agent import Agent


def playing(example: ModuleType) -> Any:
    """The agents of an example, with what they take and return checked and serialised as a worker does it."""
    agents = {one.name: one for one in vars(example).values() if isinstance(one, Agent)}

    def act(name: str, value: Any, claimed: Claimed) -> Any:
        agent = agents[name]
        try:
            answer = agent.function(agent.input.validate_python(value))
            if inspect.isawaitable(answer):
                answer = asyncio.run(answer)  # type: ignore[arg-type]
        except AgentError as error:
            raise Boom(str(error)) from error
        return json.loads(agent.output.dump_json(answer))

    return act


def output(bench: Bench, example: ModuleType, definition: Workflow, value: Any) -> tuple[Any, Any]:
    """What a run of it produces, and the run."""
    run = bench.submit(definition, value)
    bench.drain(playing(example))
    end = bench.end(run)
    assert end.state == "completed", end.error
    return end.output, run


def test_a_question_is_answered_from_a_folder_in_two_rounds(bench: Bench) -> None:
    given = json.loads((Path(research_report.__file__).parent / "question.json").read_text())

    report, run = output(bench, research_report, research_report.research_report, given)

    # The first round finds no "patents", the second one "patent"
    assert report["complete"]
    told = [e.data["reason"] for e in bench.events(run) if e.kind is EventKind.STEP_DECIDED]
    assert told[1] == "patents"
    folder = Path(research_report.__file__).parent / "documents"
    for line in (line for line in report["text"].splitlines() if line.startswith("- ")):
        quote, _, source = line.removeprefix("- ").rpartition(" (")
        name, _, number = source.removesuffix(")").partition(":")
        text = (folder / name).read_text().splitlines()
        assert quote.split()[0] in text[int(number) - 1]
        assert quote in " ".join(" ".join(text).split())


def test_documents_that_are_hard_to_read_go_to_somebody_else_or_are_named(
    bench: Bench, tmp_path: Path
) -> None:
    documents = Path(research_report.__file__).parent / "documents"
    shutil.copy(documents / "apache-2.0.txt", tmp_path)
    (tmp_path / "latin.txt").write_bytes("Grüße: Your moral rights are safe.".encode("latin-1"))
    (tmp_path / "scan.pdf").write_bytes(b"%PDF\xff\0\0")

    question = {"question": "Which moral rights and which warranties?", "folder": str(tmp_path)}
    report, run = output(bench, research_report, research_report.research_report, question)

    assert "Your moral rights are safe. (latin.txt:1)" in report["text"]
    assert "Not read: scan.pdf: scan.pdf is no text" in report["text"]
    assert not report["complete"]
    assert bench.view(run).degraded


def test_a_contract_is_assessed_clause_by_clause_and_who_differs_is_named(bench: Bench) -> None:
    text = (Path(contract_risk.__file__).parent / "mpl-2.0.txt").read_text()

    report, _ = output(bench, contract_risk, contract_risk.contract_risk, {"text": text})

    assert len(report["findings"]) + report["low"] == 38
    first = report["findings"][0]
    assert (first["assessment"]["clause"], first["assessment"]["risk"]) == (
        "6 Disclaimer of Warranty",
        "high",
    )
    assert [one["risk"] for one in first["dissent"]] == ["low"]
    judged = [one for one in report["findings"] if one["decided_by"] == "judge"]
    assert {one["assessment"]["clause"].split()[0] for one in judged} == {"3.5", "9"}
    assert all(len(one["dissent"]) == 2 for one in judged)
    flat = " ".join(text.replace("*", " ").split())
    assert all(" ".join(one["assessment"]["quote"].split()) in flat for one in report["findings"])
