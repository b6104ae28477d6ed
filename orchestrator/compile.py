"""From a definition to a plan: a pure function that refuses loudly, with every fault at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from schemas.agents import AgentSpec, JsonSchema
from schemas.errors import DefinitionError, Fault
from schemas.fit import faults as misfits
from schemas.fit import inline
from schemas.workflows import Each, FanOut, Joining, Leaf, Node, Pipeline, Workflow, walk


class Shape(StrEnum):
    """How the results of a fan-out are handed to whoever reads them."""

    NAMED = "named"
    """An object with one field per branch, null for a gap."""
    NAMED_WITH_GAPS = "named_with_gaps"
    """The same, and a field `gaps`."""
    GATHERED = "gathered"
    """`schemas.Gathered`: `{"results": [...], "gaps": [...]}`."""
    LIST = "list"
    """The bare list of results; only where no branch may be missing."""


@dataclass(frozen=True)
class PlanNode:
    """A node at its static path, where the item of an `each` is `*`."""

    path: str
    node: Node
    agent: AgentSpec | None
    """The agent of a leaf."""
    shape: Shape = Shape.NAMED
    """How a leaf wants the results of a fan-out, if such is its input."""


@dataclass(frozen=True)
class Plan:
    """A definition that was checked, ready to be executed."""

    workflow: Workflow
    nodes: Mapping[str, PlanNode]

    @cached_property
    def id(self) -> str:
        """The id of the definition."""
        return self.workflow.id

    @cached_property
    def input_schema(self) -> JsonSchema:
        """What a run of this workflow takes."""
        return _wanted(self.workflow.body, self.workflow)

    def at(self, path: str) -> PlanNode:
        """The node of a step, e.g. `0/7/1` is an instance of `0/*/1`."""
        found = self.nodes.get(path)
        return found if found is not None else self.nodes[self._static(path)]

    def find(self, path: str) -> PlanNode | None:
        """The node of a step, or None if no run of this workflow can have such a step."""
        try:
            return self.at(path) if path else None
        except KeyError:
            return None

    def input_schema_at(self, path: str) -> JsonSchema:
        """What the step at `path` takes."""
        return _wanted(self.at(path).node, self.workflow)

    def _static(self, path: str) -> str:
        static = ""
        node: Node = self.workflow.body
        for segment in path.split("/"):
            wild = isinstance(node, Each) and segment.isdecimal()
            static = f"{static}/{'*' if wild else segment}" if static else ("*" if wild else segment)
            node = self.nodes[static].node
        return static


def parent_of(path: str) -> str:
    """The path of the enclosing step; empty for a stage of the workflow itself."""
    return path.rpartition("/")[0]


def compile_workflow(workflow: Workflow) -> Plan:
    """Check a definition and index it by path. Raises `DefinitionError` naming every fault."""
    check = _Check(workflow)
    faults = list(_structural(workflow))
    if not faults:
        check.node(workflow.body, "")
        faults = check.faults
    if faults:
        raise DefinitionError(f"workflow {workflow.name!r}", faults)
    nodes = {
        path: PlanNode(path, node, _spec(workflow, node), check.shapes.get(path, Shape.NAMED))
        for path, node in walk(workflow.body)
    }
    return Plan(workflow, nodes)


@dataclass(frozen=True)
class _Value:
    """One value of a schema; an unknown schema (that of the run's own input) is empty."""

    schema: JsonSchema

    def shaped(self, wanted: JsonSchema) -> tuple[Shape, JsonSchema]:
        return Shape.NAMED, self.schema

    @property
    def plain(self) -> JsonSchema:
        return self.schema


@dataclass(frozen=True)
class _Results:
    """The results of a fan-out or an each that nobody joined yet."""

    node: FanOut | Each
    outputs: Mapping[str, JsonSchema]

    @property
    def partial(self) -> bool:
        """Whether a branch may be missing."""
        return self.node.within is not None or self.node.require != "all"

    @property
    def plain(self) -> JsonSchema:
        return self._named() if isinstance(self.node, FanOut) else self._gathered()

    def shaped(self, wanted: JsonSchema) -> tuple[Shape, JsonSchema]:
        fields = wanted.get("properties", {})
        if wanted.get("type") == "array":
            return Shape.LIST, self._list()
        if {"results", "gaps"} <= set(fields) or isinstance(self.node, Each):
            return Shape.GATHERED, self._gathered()
        if "gaps" in fields:
            return Shape.NAMED_WITH_GAPS, self._named()
        return Shape.NAMED, self._named(gaps=False)

    def _list(self) -> JsonSchema:
        return {"type": "array", "items": {"anyOf": list(self.outputs.values())}}

    def _gathered(self) -> JsonSchema:
        return _object({"results": self._list(), "gaps": _GAPS})

    def _named(self, *, gaps: bool = True) -> JsonSchema:
        null = {"type": "null"}
        fields = {k: {"anyOf": [v, null]} if self.partial else v for k, v in self.outputs.items()}
        return _object(fields | ({"gaps": _GAPS} if gaps else {}))


_Produced = _Value | _Results


class _Check:
    """Follows what each stage produces through the tree and collects what does not fit."""

    def __init__(self, workflow: Workflow) -> None:
        self.agents = workflow.agents
        self.faults: list[Fault] = []
        self.shapes: dict[str, Shape] = {}

    def node(self, node: Node, path: str, produced: _Produced | None = None) -> _Produced:
        """What `node` produces from `produced` (None: the run's input, which adapts to its consumer)."""
        match node:
            case Leaf():
                return self._leaf(node, path, produced)
            case Pipeline(stages=stages):
                for index, stage in enumerate(stages):
                    produced = self.node(stage, _below(path, str(index)), produced)
                assert produced is not None  # noqa: S101  a pipeline has at least one stage
                return produced
            case FanOut(branches=branches):
                outputs = {k: self.node(b, _below(path, k), produced).plain for k, b in branches.items()}
                return self._join(node, path, _Results(node, outputs))
            case Each(body=body):
                item = self._item(node, path, produced)
                output = self.node(body, _below(path, "*"), item)
                return self._join(node, path, _Results(node, {"*": output.plain}))

    def _leaf(self, node: Leaf, path: str, produced: _Produced | None) -> _Produced:
        spec = self.agents[node.agent]
        if produced is not None:
            wanted = inline(spec.input_schema)
            shape, schema = produced.shaped(wanted)
            self.shapes[path] = shape
            if isinstance(produced, _Results) and shape is Shape.LIST and produced.partial:
                self._fault(path, node, "takes a bare list, but a branch may be missing: take Gathered[...]")
            for fault in misfits(schema, wanted):
                self._fault(path, node, str(fault))
        return _Value(inline(spec.output_schema))

    def _join(self, node: FanOut | Each, path: str, results: _Results) -> _Produced:
        if node.join is None:
            return results
        return self._leaf(Leaf(agent=node.join), _below(path, "join"), results)

    def _item(self, node: Each, path: str, produced: _Produced | None) -> _Value | None:
        if produced is None:
            return None
        where = f"{path} (each)"
        schema = produced._list() if isinstance(produced, _Results) and not node.items else produced.plain
        if node.items is not None and schema:
            if node.items not in schema.get("properties", {}):
                self.faults.append(Fault(where, f"its input has no field {node.items!r}"))
                return _Value({})
            schema = schema["properties"][node.items]
        if schema and schema.get("type", "array") != "array":
            self.faults.append(Fault(where, f"needs a list, but receives {schema.get('type')}"))
            return _Value({})
        items = schema.get("items", {})
        return _Value(items if isinstance(items, dict) else {})

    def _fault(self, path: str, node: Leaf, message: str) -> None:
        self.faults.append(Fault(f"{path} ({node.agent})", f"input {message}"))


_GAPS: JsonSchema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("branch", "state", "reason")},
        "required": ["branch", "state", "reason"],
    },
}


def _object(fields: dict[str, JsonSchema]) -> JsonSchema:
    return {"type": "object", "properties": fields, "required": list(fields)}


def _structural(workflow: Workflow) -> Iterator[Fault]:
    """Faults that make it pointless to look at types."""
    for path, node in walk(workflow.body):
        if isinstance(node, Leaf) and node.agent not in workflow.agents:
            yield Fault(path, f"there is no agent {node.agent!r} in `agents`")
        if isinstance(node, FanOut):
            yield from _branches(path, node)
        if isinstance(node, Joining) and isinstance(node.require, int) and node.require < 1:
            yield Fault(path, "require must be at least 1")


def _branches(path: str, node: FanOut) -> Iterator[Fault]:
    if isinstance(node.require, int) and node.require > len(node.branches):
        yield Fault(path, f"require={node.require}, but there are only {len(node.branches)} branches")
    for reserved in {"join", "gaps"} & set(node.branches):
        yield Fault(_below(path, reserved), f"{reserved!r} is a reserved name: rename the branch")


def _wanted(node: Node, workflow: Workflow) -> JsonSchema:
    """The schema that a node asks of its input."""
    match node:
        case Leaf(agent=agent):
            return inline(workflow.agents[agent].input_schema)
        case Pipeline(stages=stages):
            return _wanted(stages[0], workflow)
        case FanOut(branches=branches):
            wants: list[JsonSchema] = []
            for branch in branches.values():
                want = _wanted(branch, workflow)
                if want not in wants:
                    wants.append(want)
            return wants[0] if len(wants) == 1 else {"allOf": wants}
        case Each(body=body, items=items, max_items=most):
            array = {"type": "array", "items": _wanted(body, workflow), "maxItems": most}
            return array if items is None else _object({items: array})


def _spec(workflow: Workflow, node: Node) -> AgentSpec | None:
    return workflow.agents[node.agent] if isinstance(node, Leaf) else None


def _below(path: str, segment: str) -> str:
    return f"{path}/{segment}" if path else segment
