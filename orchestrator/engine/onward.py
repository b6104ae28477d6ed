"""Stages that are claimed in the statement that records the one before, by the worker that ended it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from orchestrator.definitions.plan import Plan
from orchestrator.engine.values import Claimed, Finished
from schemas.outcomes import Done
from schemas.workflows import Leaf, Pipeline


class NextStage(NamedTuple):
    """An agent's step in a pipeline."""

    path: str
    agent: str


def wanted(finished: Finished) -> NextStage | None:
    """The next stage, if the worker that reports this would run it at once."""
    if finished.onward is None or not isinstance(finished.outcome, Done):
        return None
    stage = _after(finished.onward.claimed.run.plan, finished.path)
    return stage if stage is not None and stage.agent in finished.onward.agents else None


def claim_of(finished: Finished, stage: NextStage, run_left: float | None) -> Claimed:
    """The claim of a stage that was opened together with this outcome; `run_left` in seconds."""
    assert finished.onward is not None  # noqa: S101  else no stage was wanted
    return replace(
        finished.onward.claimed,
        path=stage.path,
        attempt=1,
        retries=0,
        input=finished.output or "null",
        run_left=run_left,
    )


def _after(plan: Plan, path: str) -> NextStage | None:
    """The stage after this one in its pipeline, if there is one and it is an agent."""
    above, _, segment = path.rpartition("/")
    pipeline = plan.at(above).node if above else plan.workflow.body
    if not isinstance(pipeline, Pipeline) or pipeline.stop_when is not None:
        return None
    following = int(segment) + 1
    stage = pipeline.stages[following] if following < len(pipeline.stages) else None
    return NextStage(f"{above}/{following}".lstrip("/"), stage.agent) if isinstance(stage, Leaf) else None
