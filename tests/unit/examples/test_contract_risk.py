"""The example reads a real contract: its clauses, its risks, and who sees them otherwise."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from examples import contract_risk as example
from examples.contract_risk import Assessment, contract_risk, duties, exposure, judge, report, rights
from examples.contract_risk.clauses import Clause, clauses
from orchestrator.definitions.compile import compile_workflow
from schemas import Case, Debated, Dissent, Gathered

TEXT = (Path(example.__file__).parent / "mpl-2.0.txt").read_text()
CLAUSES = {one.number: one for one in clauses(TEXT)}


def assessed(reader: Any, clause: Clause) -> Assessment:
    answer: Assessment = asyncio.run(reader.function(clause))
    return answer


def test_every_clause_is_found_with_its_line() -> None:
    lines = TEXT.splitlines()

    assert len(CLAUSES) == 38
    for clause in CLAUSES.values():
        assert clause.number in lines[clause.line - 1]
    # A heading on a line of its own, one that the text runs on from, and one in a frame
    assert CLAUSES["2.2"].text.startswith("The licenses granted in Section 2.1")
    assert CLAUSES["1.8"].text == '"License" means this document.'
    assert CLAUSES["6"].text.startswith('Covered Software is provided under this License on an "as is" basis')


@pytest.mark.parametrize(
    ("number", "risks"),
    [
        ("1.8", ("low", "low", "low")),
        ("2.1", ("low", "low", "low")),
        ("3.2", ("medium", "low", "low")),
        ("6", ("low", "high", "high")),
        ("7", ("medium", "high", "high")),
    ],
)
def test_each_reader_looks_at_something_else(number: str, risks: tuple[str, ...]) -> None:
    found = [assessed(reader, CLAUSES[number]) for reader in (duties, exposure, rights)]

    assert tuple(one.risk for one in found) == risks
    assert all(one.quote in CLAUSES[number].text for one in found)


def test_the_judge_prefers_who_quotes() -> None:
    clause = CLAUSES["3.2"]
    made_up = assessed(duties, clause).model_copy(update={"quote": "You must pay."})
    case = Case[Assessment](
        task=clause.model_dump(),
        positions={"duties": made_up, "exposure": assessed(duties, clause)},
        rubric=example.RUBRIC,
    )

    verdict = asyncio.run(judge.function(case))

    assert verdict.scores["duties"]["evidence"] == 0.0
    assert verdict.scores["exposure"]["evidence"] == 1.0


def test_the_workflow_takes_a_contract() -> None:
    assert compile_workflow(contract_risk).input_schema["properties"]["text"]["type"] == "string"


def test_the_report_puts_the_greatest_risk_first_and_names_who_differs() -> None:
    given = Gathered[Debated[Assessment]](results=[debated("3.1"), debated("7"), debated("2.1")])

    told = asyncio.run(report.function(given))

    assert [one.assessment.clause.split()[0] for one in told.findings] == ["7", "3.1"]
    assert [[other.risk for other in one.dissent] for one in told.findings] == [["medium"], ["medium"]]
    assert (told.low, told.disputed) == (1, 2)


def debated(number: str) -> Debated[Assessment]:
    """What the readers come to, two of whom agree."""
    found = {reader.name: assessed(reader, CLAUSES[number]) for reader in (duties, exposure, rights)}
    risk, votes = Counter(one.risk for one in found.values()).most_common(1)[0]
    camp = [name for name, one in found.items() if one.risk == risk]
    return Debated(
        winner=camp[0],
        answer=found[camp[0]],
        by="majority",
        reason="",
        confidence=votes / 3,
        agreement=votes / 3,
        supporters=camp,
        dissent=[Dissent(debater=k, answer=v) for k, v in found.items() if k not in camp],
    )
