"""The Python form of workflows: sugar over the models of `schemas.workflows`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from orchestrator.compile import compile_workflow
from schemas.agents import AgentSpec
from schemas.errors import DefinitionError, Fault
from schemas.usage import Budget
from schemas.workflows import MAX_ITEMS, Each, FanOut, Leaf, Node, Pipeline, Require, Workflow


class Composable(ABC):
    """Whatever can stand in a workflow: `a >> b` makes a pipeline of it."""

    @property
    @abstractmethod
    def part(self) -> Part:
        """This as a piece of a workflow."""

    def __rshift__(self, after: Composable) -> Part:
        left, right = self.part, after.part
        return Part(Pipeline(stages=(*_stages(left.node), *_stages(right.node))), left.agents + right.agents)


@dataclass(frozen=True)
class Part(Composable):
    """A piece of a workflow, and the agents that it calls."""

    node: Node
    agents: tuple[AgentSpec, ...] = ()

    @property
    def part(self) -> Part:
        return self


def fan_out(
    *branches: Composable,
    join: Composable | None = None,
    require: Require = "all",
    within: float | None = None,
    parallel: int | None = None,
    **named: Composable,
) -> Part:
    """Branches that run beside each other on the same input.

    An agent's branch is called like the agent; anything else needs a name: `fan_out(legal, money=a >> b)`.
    `join` receives the results (see `schemas.Gathered`); `require`, `within` (seconds) and `parallel` are
    described at `schemas.workflows.Joining`. Raises `DefinitionError` for branches without a name or with the
    same one.
    """
    parts, faults = dict[str, Part](), list[Fault]()
    for index, branch in enumerate(branches):
        node = branch.part.node
        if not isinstance(node, Leaf):
            faults.append(Fault(f"branch {index}", f"a {node.pattern} needs a name: fan_out(name=...)"))
        elif node.agent in parts:
            faults.append(Fault(f"branch {index}", f"{node.agent!r} is there twice: name one of them"))
        else:
            parts[node.agent] = branch.part
    for name, branch in named.items():
        if name in parts:
            faults.append(Fault(f"branch {name}", "is there twice"))
        parts[name] = branch.part
    if not parts:
        faults.append(Fault("", "it has no branches"))
    if faults:
        raise DefinitionError("fan_out(...)", faults)
    node = FanOut(
        branches={name: part.node for name, part in parts.items()},
        join=_agent_name(join),
        require=require,
        within=within,
        parallel=parallel,
    )
    return Part(node, _agents(*parts.values(), join))


def each(
    body: Composable,
    *,
    items: str | None = None,
    join: Composable | None = None,
    require: Require = "all",
    within: float | None = None,
    parallel: int | None = None,
    max_items: int = MAX_ITEMS,
) -> Part:
    """One branch of `body` for every item of a list: the input itself, or its field `items`.

    The other arguments are those of `fan_out`; a list longer than `max_items` fails the step.
    """
    node = Each(
        body=body.part.node,
        items=items,
        join=_agent_name(join),
        require=require,
        within=within,
        parallel=parallel,
        max_items=max_items,
    )
    return Part(node, _agents(body, join))


def workflow(
    name: str,
    body: Composable,
    *,
    version: int = 1,
    description: str = "",
    timeout: float | None = None,
    budget: Budget | None = None,
) -> Workflow:
    """A definition that can run. Raises `DefinitionError` with every fault of it at once."""
    specs: dict[str, AgentSpec] = {}
    twice = {spec.name for spec in body.part.agents if specs.setdefault(spec.name, spec) != spec}
    if twice:
        faults = [Fault(f"agent {agent}", "two different agents have this name") for agent in sorted(twice)]
        raise DefinitionError(f"workflow {name!r}", faults)
    made = Workflow(
        name=name,
        version=version,
        description=description,
        body=Pipeline(stages=_stages(body.part.node)),
        agents=specs,
        timeout=timeout,
        budget=budget or Budget(),
    )
    compile_workflow(made)
    return made


def _stages(node: Node) -> tuple[Node, ...]:
    return node.stages if isinstance(node, Pipeline) else (node,)


def _agents(*parts: Composable | None) -> tuple[AgentSpec, ...]:
    return tuple(spec for part in parts if part is not None for spec in part.part.agents)


def _agent_name(join: Composable | None) -> str | None:
    if join is None:
        return None
    node = join.part.node
    if not isinstance(node, Leaf):
        raise DefinitionError("join=", [Fault("", f"a join is an agent, not a {node.pattern}")])
    return node.agent
