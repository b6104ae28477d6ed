"""A definition that was checked, indexed by the paths of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from orchestrator.definitions.produced import Shape, shape_of
from orchestrator.definitions.wanted import wanted_by
from schemas.agents import AgentSpec, JsonSchema
from schemas.usage import Budget
from schemas.workflows import Approve, Each, FanOut, Joining, Loop, Node, Pipeline, Stage, Supervise, Workflow


@dataclass(frozen=True)
class PlanNode:
    """A node at its static path, where the item of an `each` is `*`."""

    path: str
    node: Node
    agent: AgentSpec | None
    """The agent of a leaf."""
    child: Plan | None = None
    """The plan of a run that the step starts."""


@dataclass(frozen=True)
class Plan:
    """A definition that was checked, ready to be executed."""

    workflow: Workflow
    nodes: Mapping[str, PlanNode]
    passing: Mapping[str, JsonSchema]
    """By the static path of an approval: the schema of what comes by."""
    output_schema: JsonSchema
    """What a run of this workflow produces."""

    @cached_property
    def id(self) -> str:
        """The id of the definition."""
        return self.workflow.id

    @cached_property
    def budget(self) -> str | None:
        """What a run may consume, as JSON text, if that is limited."""
        budget = self.workflow.budget
        return budget.model_dump_json(exclude_none=True) if budget != Budget() else None

    @cached_property
    def input_schema(self) -> JsonSchema:
        """What a run of this workflow takes."""
        return wanted_by(self.workflow.body, self.workflow)

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
        found = self.at(path)
        if isinstance(found.node, Approve):
            return self.passing[found.path] or self._wanted_after(found.path)
        return wanted_by(found.node, self.workflow)

    def shape(self, reader: str, source: str) -> Shape:
        """How the agent or the child run at one path wants the results of the fan-out at another."""
        fan_out = self.at(source).node
        assert isinstance(fan_out, FanOut | Each)  # noqa: S101  only these have results
        return shape_of(wanted_by(self.at(reader).node, self.workflow), fan_out)

    def _wanted_after(self, path: str) -> JsonSchema:
        """What is asked of a value that nothing has produced yet, and that a person looks at, by what comes next."""
        above = parent_of(path)
        node = self.nodes[above].node
        if isinstance(node, Stage):
            return self._wanted_after(above)
        return wanted_by(node, self.workflow) if isinstance(node, Pipeline) else {}

    def _static(self, path: str) -> str:
        static = ""
        node: Node = self.workflow.body
        for segment in path.split("/"):
            wild = isinstance(node, Each | Loop | Supervise) and segment.isdecimal()
            static = f"{static}/{'*' if wild else segment}" if static else ("*" if wild else segment)
            node = self.nodes[static].node
        return static


def parent_of(path: str) -> str:
    """The path of the enclosing step; empty for a stage of the workflow itself."""
    return path.rpartition("/")[0]


def implied(plan: Plan, path: str) -> bool:
    """Whether the parts of this composite open by themselves; of all others the events tell which opened, and when."""
    node = plan.at(path).node
    return isinstance(node, Joining) or (isinstance(node, Pipeline) and node.stop_when is None)
