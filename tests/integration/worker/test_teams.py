"""Supervisors and debates on real workers, one of which is killed in the middle."""

from __future__ import annotations

import json
from pathlib import Path

from examples import contract_risk, research_report
from tests.integration.worker.stack import Stack
from tests.support import eventually

BOTH = "examples.contract_risk,examples.research_report"


def test_a_supervisor_outlives_a_worker_that_is_killed(alone: Stack) -> None:
    # Given planners, readers and reviewers, and a second worker that may read as well
    everybody = ("plan", "read", "read_anyway", "review", "write")
    alone.worker(*everybody, BATON_APP=BOTH)
    doomed = alone.worker("read", BATON_APP=BOTH)
    question = json.loads((Path(research_report.__file__).parent / "question.json").read_text())

    # When one dies while they read
    runs = [alone.submit(research_report.research_report, question) for _ in range(10)]
    eventually(lambda: any("step.done" in alone.kinds(run, "0/0/work/0/read/do") for run in runs), 30)
    doomed.kill()

    # Then every question is answered, from the same passages, and nobody read anything twice
    answers = [run.result(60) for run in runs]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["complete"]
    done = "SELECT count(*) FROM events WHERE kind = 'step.done' GROUP BY run_id, path HAVING count(*) > 1"
    assert alone.query(done) == []


def test_a_debate_over_every_clause_of_a_contract(alone: Stack) -> None:
    alone.worker("split_clauses", "duties", "exposure", "rights", "judge", "report", BATON_APP=BOTH)
    text = (Path(contract_risk.__file__).parent / "mpl-2.0.txt").read_text()

    report = alone.run(contract_risk.contract_risk, {"text": text}, timeout=60)

    assert len(report["findings"]) + report["low"] == 38
    assert report["disputed"] > 10
