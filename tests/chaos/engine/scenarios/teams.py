"""Supervisors and debates: what is decided when a part of theirs ends."""

from __future__ import annotations

from orchestrator.definitions.teams import debate, supervise
from schemas import Assignments, Brief, Case, Review, Verdict
from tests.chaos.engine.scenarios.building import A, B, Scenario
from tests.chaos.engine.scenarios.steps import recording
from tests.integration.engine.bench import named

_BRIEF = Brief.model_json_schema()
PLANNER = named("c", takes=_BRIEF, gives=Assignments.model_json_schema())
REVIEWER = named("d", takes=_BRIEF, gives=Review.model_json_schema())
JUDGE = named("j", takes=Case.model_json_schema(), gives=Verdict.model_json_schema())

TEAM = supervise(A, B, planner=PLANNER, reviewer=REVIEWER, parallel=1, within=3600) >> A.optional()
EVERYTHING = {
    "assignments": [{"worker": "a", "input": 1}, {"worker": "b", "input": 2}, {"worker": "x", "input": 3}],
    "accept": False,
    "answer": "so far",
    "scores": {"a": {"truth": 1.0}, "b": {"truth": 0.5}},
}
"""An answer for each of them."""

WORKED = ("0/0/plan", "0/0/work/0/a", "0/0/work/1/b")


def ending(path: str, *before: str) -> Scenario:
    """A part of a supervisor ends."""
    return recording(TEAM, path, value=EVERYTHING, before=before)


def answering(path: str, *before: str) -> Scenario:
    """A debater, or the judge."""
    body = debate(A, B, judge=JUDGE, rubric={"truth": 1.0}, mode="unanimous", fields=["answer"])
    return recording(body, path, value=EVERYTHING, before=before)
