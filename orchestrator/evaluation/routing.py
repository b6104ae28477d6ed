"""How well a router decides: by its rules as the engine evaluates them; its agent is asked what they leave open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from orchestrator.definitions.plan import Plan
from orchestrator.engine.routing import NO_RULE, Decision, by_answer, by_default, by_failure, by_rules
from orchestrator.evaluation.cases import Look
from orchestrator.evaluation.measuring import Output
from orchestrator.evaluation.running import CaseRun, Evaluator
from schemas.errors import NotFound
from schemas.evaluations import Case, Routed, RouteEvaluation
from schemas.runs import RUN_ENDED, RunFigures, RunState
from schemas.workflows import Leaf, Pipeline, Route, Workflow


def find_router(plan: Plan, step: str | None) -> tuple[str, Route]:
    """The router at a path (an item or a round is `*`, or any number), or the first one. Raises `NotFound`."""
    routers = {path: one.node for path, one in plan.nodes.items() if isinstance(one.node, Route)}
    if step is None:
        for path, node in routers.items():
            return path, node
        raise NotFound(f"Workflow {plan.workflow.name!r} has no router.", next_step=_look(plan))
    found = plan.find(step.strip("/"))
    if found is None or not isinstance(found.node, Route):
        there = f"; there are routers at {', '.join(routers)}" if routers else ""
        raise NotFound(f"Step {step!r} of {plan.workflow.name!r} is no router{there}.", next_step=_look(plan))
    return found.path, found.node


def expects_a_way(node: Route) -> Look:
    """A case must say which of the ways is right."""

    def look(case: Case) -> Iterator[str]:
        if case.expected not in node.choices:
            yield f"it expects {case.expected!r}, which is not one of {', '.join(node.choices)}"

    return look


def evaluate_route(
    runner: Evaluator, output: Output, cases: Sequence[Case], definition: Workflow, path: str, node: Route
) -> RouteEvaluation:
    """Send every case its way, and compare that with the way it was to go."""
    decided = {case.id: by_rules(node, case.input) for case in cases}
    stands: Mapping[str, RunFigures | None] = {}
    if node.by is not None:
        question = asking(definition, node.by)
        jobs = [CaseRun(question, case) for case in cases if decided[case.id] is None]
        stands = {job.case.id: stand for job, stand in zip(jobs, runner.run(jobs), strict=True)}
    return RouteEvaluation(
        name=runner.name,
        workflow=definition.name,
        version=definition.version,
        definition=definition.id,
        step=path,
        choices=tuple(node.choices),
        results=tuple(_routed(case, node, decided[case.id], stands.get(case.id), output) for case in cases),
    )


def asking(definition: Workflow, agent: str) -> Workflow:
    """A workflow that does nothing but ask the agent of a router: nobody is sent anywhere."""
    return Workflow(
        name=f"{definition.name[:60]}.{agent[:38]}.eval",
        description=f"Asks {agent} for `baton eval route {definition.name}`.",
        body=Pipeline(stages=(Leaf(agent=agent),)),
        agents={agent: definition.agents[agent]},
    )


def _routed(
    case: Case, node: Route, decision: Decision | None, stand: RunFigures | None, output: Output
) -> Routed:
    told: dict[str, Any] = {"id": case.id, "expected": case.expected}
    if decision is not None:
        return _told(told, decision)
    if node.by is None:
        return _told(told, by_default(node, NO_RULE))
    if stand is None or stand.state not in RUN_ENDED:
        run: UUID | None = stand.id if stand is not None else None
        return Routed(**told, choice=None, by="nobody", reason=f"{node.by} has not answered in time", run=run)
    told["run"] = stand.id
    if stand.state is not RunState.COMPLETED:
        return _told(told, by_failure(node, stand.error.model_dump_json() if stand.error else None))
    answer = output(stand.id)
    decision = by_answer(node, answer)
    # Where the engine tells a confidence, the answer was a `Choice`; what is no way is not doubt.
    doubted = decision.by == "fallback" and decision.confidence is not None
    return _told(told | {"unsure": doubted and answer["choice"] in node.choices}, decision)


def _told(told: dict[str, Any], decision: Decision) -> Routed:
    return Routed(
        **told,
        choice=decision.choice,
        by=decision.by,
        rule=decision.rule,
        confidence=decision.confidence,
        reason=decision.reason,
    )


def _look(plan: Plan) -> str:
    return f"baton plan {plan.workflow.name}"
