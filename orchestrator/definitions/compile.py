"""From a definition to a plan: a pure function that refuses loudly, with every fault at once."""

from __future__ import annotations

from orchestrator.definitions import exchanges
from orchestrator.definitions.conditions import fault
from orchestrator.definitions.plan import Plan, PlanNode
from orchestrator.definitions.produced import Produced, Shape, Unjoined, Value, one_of
from orchestrator.definitions.structure import structural
from orchestrator.definitions.wanted import wanted_by
from schemas.agents import AgentSpec, JsonSchema
from schemas.errors import DefinitionError, Fault
from schemas.fit import faults as misfits
from schemas.fit import inline
from schemas.tree import below, walk
from schemas.workflows import (
    RISKS,
    Approve,
    Assigned,
    Child,
    Debate,
    Each,
    FanOut,
    Leaf,
    Loop,
    Node,
    Pipeline,
    Round,
    Route,
    Stage,
    Supervise,
    WaitFor,
    Workflow,
)


def compile_workflow(workflow: Workflow) -> Plan:
    """Check a definition and index it by path. Raises `DefinitionError` naming every fault."""
    check = _Check(workflow)
    faults = list(structural(workflow))
    produced: JsonSchema = {}
    if not faults:
        produced = check.node(workflow.body, "").plain
        faults = check.faults
    if faults:
        raise DefinitionError(f"workflow {workflow.name!r}", faults)
    nodes = {
        path: PlanNode(path, node, _spec(workflow, node), check.plans.get(path))
        for path, node in walk(workflow.body)
    }
    return Plan(workflow, nodes, check.passing, produced)


class _Check:
    """Follows what each stage produces through the tree and collects what does not fit."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.agents = workflow.agents
        self.faults: list[Fault] = []
        self.passing: dict[str, JsonSchema] = {}
        self.plans: dict[str, Plan] = {}
        """By the static path of a step that starts a run: the plan of that run."""

    def node(self, node: Node, path: str, produced: Produced | None = None) -> Produced:
        """What `node` produces from `produced` (None: the run's input, which adapts to its consumer)."""
        match node:
            case Leaf():
                return self._leaf(node, path, produced)
            case Pipeline():
                return self._pipeline(node, path, produced)
            case FanOut(branches=branches):
                outputs = {k: self.node(b, below(path, k), produced).plain for k, b in branches.items()}
                return self._join(node, path, Unjoined(node, outputs))
            case Each(body=body):
                item = self._item(node, path, produced)
                output = self.node(body, below(path, "*"), item)
                return self._join(node, path, Unjoined(node, {"*": output.plain}))
            case Stage():
                return self._stage(node, path, produced)
            case Route():
                return self._route(node, path, produced)
            case Loop():
                return self._loop(node, path, produced)
            case Approve():
                return self._approve(node, path, produced)
            case Supervise():
                return self._supervise(node, path, produced)
            case Round():
                return self._round(node, path, produced)
            case Assigned(workers=workers):
                return one_of([self.node(way, below(path, name)) for name, way in workers.items()])
            case Debate():
                return self._debate(node, path, produced)
            case WaitFor():
                self._condition(path, node, node.key, ("input",))
                self._condition(path, node, node.when, ("event", "input"))
                return Value(inline(node.output))
            case Child():
                return self._child(node, path, produced)

    def _pipeline(self, node: Pipeline, path: str, produced: Produced | None) -> Produced:
        self._condition(path, node, node.stop_when, ("output",))
        stages = []
        for index, stage in enumerate(node.stages):
            produced = self.node(stage, below(path, str(index)), produced)
            stages.append(produced)
        return one_of(stages) if node.stop_when else stages[-1]

    def _stage(self, node: Stage, path: str, produced: Produced | None) -> Produced:
        self._condition(path, node, node.when, ("input",))
        ways = [self.node(node.body, below(path, "do"), produced)]
        if node.fallback is not None:
            ways.append(self.node(node.fallback, below(path, "else"), produced))
        if node.when is not None or node.optional:
            ways.append(produced or Value(wanted_by(node, self.workflow)))
        return one_of(ways)

    def _route(self, node: Route, path: str, produced: Produced | None) -> Produced:
        for rule in node.rules:
            self._condition(path, node, rule.when, ("input",))
        if node.by is not None:
            self._leaf(Leaf(agent=node.by), below(path, "by"), produced)
            if "choice" not in inline(self.agents[node.by].output_schema).get("properties", {}):
                self.faults.append(Fault(f"{path} (route)", f"{node.by!r} must return a Choice"))
        return one_of([self.node(way, below(path, name), produced) for name, way in node.choices.items()])

    def _loop(self, node: Loop, path: str, produced: Produced | None) -> Produced:
        self._condition(path, node, node.until, ("input", "output", "round"))
        self._condition(path, node, node.score, ("output",))
        start = len(self.faults)
        output = self.node(node.body, below(path, "*"), produced)
        before = len(self.faults)
        again = self.node(node.body, below(path, "*"), output)
        told = [Fault(f.path, f"in the second round {f.message}") for f in self.faults[before:]]
        self.faults[before:] = told if before == start else []
        return again

    def _approve(self, node: Approve, path: str, produced: Produced | None) -> Produced:
        if node.risk not in RISKS:
            self._condition(path, node, node.risk, ("input",))
        self._condition(path, node, node.confidence, ("input",))
        # What a person may edit is one value: results that nobody joined pass in their natural shape.
        passed = Value(produced.plain) if produced is not None else Value({})
        known = self.passing.setdefault(path, passed.schema)
        if known != passed.schema:  # the second round of a loop
            self.passing[path] = {"anyOf": [known, passed.schema]}
        return passed

    def _supervise(self, node: Supervise, path: str, produced: Produced | None) -> Produced:
        review = self.node(node.round, below(path, "*"), produced).plain
        return Value(exchanges.supervised(review.get("properties", {}).get("answer", {})))

    def _round(self, node: Round, path: str, produced: Produced | None) -> Produced:
        of, work = node.supervisor, below(path, "work")
        self.node(node.work.body, below(work, "*"))
        given = Value(exchanges.brief(produced.plain if produced is not None else {}))
        plan = self._asked(of.planner, below(path, "plan"), given, "task", "Brief").plain
        if plan.get("type") != "array":
            self._returns(of.planner, below(path, "plan"), plan, "assignments", "Assignments")
        review = self._asked(of.reviewer, below(path, "review"), given, "task", "Brief")
        self._returns(of.reviewer, below(path, "review"), review.plain, "accept", "Review")
        return review

    def _debate(self, node: Debate, path: str, produced: Produced | None) -> Produced:
        inside = below(path, "positions")
        answers = {n: self.node(d, below(inside, n), produced).plain for n, d in node.debaters.items()}
        first, answer = next(iter(answers.items()))
        for name, schema in answers.items():
            if exchanges.bare(schema) != exchanges.bare(answer):
                self.faults.append(
                    Fault(
                        f"{inside}/{name}", f"all debaters produce the same schema, but not that of {first!r}"
                    )
                )
        for unknown in set(node.fields) - set(answer.get("properties", node.fields)):
            self.faults.append(Fault(f"{path} (debate)", f"its answers have no field {unknown!r}"))
        if node.judge is not None:
            task = produced.plain if produced is not None else {}
            verdict = self._asked(
                node.judge, below(path, "judge"), Value(exchanges.case(task, answer)), "positions", "Case"
            )
            self._returns(node.judge, below(path, "judge"), verdict.plain, "scores", "Verdict")
        return Value(exchanges.debated(answer))

    def _child(self, node: Child, path: str, produced: Produced | None) -> Produced:
        try:
            plan = self.plans.get(path) or compile_workflow(node.workflow)
        except DefinitionError as error:
            inside = f"{path} (child {node.workflow.name})"
            self.faults += [Fault(f"{inside} {one.path}".rstrip(), one.message) for one in error.faults]
            return Value({})
        self.plans[path] = plan
        self._takes(f"{path} (child {node.workflow.name})", plan.input_schema, produced)
        return Value(plan.output_schema if node.wait else exchanges.STARTED)

    def _asked(self, agent: str, path: str, given: Value, field: str, what: str) -> Produced:
        """What an agent produces that is asked by the engine and must take this kind of input."""
        if field not in inline(self.agents[agent].input_schema).get("properties", {}):
            self.faults.append(Fault(f"{path} ({agent})", f"it must take a {what}"))
            return Value(inline(self.agents[agent].output_schema))
        return self._leaf(Leaf(agent=agent), path, given)

    def _returns(self, agent: str, path: str, schema: JsonSchema, field: str, what: str) -> None:
        if field not in schema.get("properties", {}):
            self.faults.append(Fault(f"{path} ({agent})", f"it must return {what}"))

    def _condition(self, path: str, node: Node, text: str | None, names: tuple[str, ...]) -> None:
        found = fault(text, names) if text is not None else None
        if found is not None:
            self.faults.append(Fault(f"{path} ({node.pattern})", found))

    def _leaf(self, node: Leaf, path: str, produced: Produced | None) -> Produced:
        spec = self.agents[node.agent]
        self._takes(f"{path} ({node.agent})", inline(spec.input_schema), produced)
        return Value(inline(spec.output_schema))

    def _takes(self, where: str, wanted: JsonSchema, produced: Produced | None) -> None:
        """Whether what stands before it produces what somebody takes."""
        if produced is None:
            return
        shape, schema = produced.shaped(wanted)
        if isinstance(produced, Unjoined) and shape is Shape.LIST and produced.partial:
            missing = "input takes a bare list, but a branch may be missing: take Gathered[...]"
            self.faults.append(Fault(where, missing))
        self.faults += [Fault(where, f"input {fault}") for fault in misfits(schema, wanted)]

    def _join(self, node: FanOut | Each, path: str, results: Unjoined) -> Produced:
        if node.join is None:
            return results
        return self._leaf(Leaf(agent=node.join), below(path, "join"), results)

    def _item(self, node: Each, path: str, produced: Produced | None) -> Value | None:
        if produced is None:
            return None
        where = f"{path} (each)"
        schema = produced.listed() if isinstance(produced, Unjoined) and not node.items else produced.plain
        if node.items is not None and schema:
            if node.items not in schema.get("properties", {}):
                self.faults.append(Fault(where, f"its input has no field {node.items!r}"))
                return Value({})
            schema = schema["properties"][node.items]
        if schema and schema.get("type", "array") != "array":
            self.faults.append(Fault(where, f"needs a list, but receives {schema.get('type')}"))
            return Value({})
        items = schema.get("items", {})
        return Value(items if isinstance(items, dict) else {})


def _spec(workflow: Workflow, node: Node) -> AgentSpec | None:
    return workflow.agents[node.agent] if isinstance(node, Leaf) else None
