"""Workflows as data: a named tree of patterns whose leaves are agents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Literal, Union

from pydantic import Field

from schemas.agents import AgentName, AgentSpec
from schemas.base import Frozen
from schemas.usage import Budget

BranchName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,62}$")]
Require = int | Literal["all", "any", "quorum"]

MAX_ITEMS = 10_000

WINDOW = 1_000
"""Branches of one fan-out that may start at a time when it sets no `parallel` itself."""


class Leaf(Frozen):
    """One call of an agent."""

    pattern: Literal["agent"] = "agent"
    agent: AgentName


class Pipeline(Frozen):
    """Stages one after the other; each receives the output of the one before."""

    pattern: Literal["pipeline"] = "pipeline"
    stages: tuple[Node, ...] = Field(min_length=1)


class Joining(Frozen):
    """What fan-out and each have in common: how branches run beside each other, and how they are joined."""

    join: AgentName | None = None
    """The agent that receives all results; without it the results themselves are the output."""
    require: Require = "all"
    """Branches that must succeed: a number, `all`, `any` (1) or `quorum` (more than half)."""
    within: float | None = Field(default=None, gt=0)
    """Seconds after which the join goes on with the results there are."""
    parallel: int | None = Field(default=None, ge=1)
    """Branches that run at a time."""

    @property
    def window(self) -> int:
        """Branches that may start before one of them has ended."""
        return self.parallel or WINDOW

    def required(self, branches: int) -> int:
        """How many of `branches` must succeed, at most all of them."""
        match self.require:
            case "all":
                return branches
            case "any":
                return min(1, branches)
            case "quorum":
                return branches // 2 + 1 if branches else 0
            case number:
                return min(number, branches)


class FanOut(Joining):
    """Named branches that all receive the same input."""

    pattern: Literal["fan_out"] = "fan_out"
    branches: dict[BranchName, Node] = Field(min_length=1)


class Each(Joining):
    """One branch for every item of a list."""

    pattern: Literal["each"] = "each"
    body: Node
    items: str | None = None
    """The field of the input that holds the list; without it the input itself is the list."""
    max_items: int = Field(default=MAX_ITEMS, ge=1, le=1_000_000)
    """A longer list fails the step: nothing is unbounded."""


Node = Annotated[Union[Leaf, Pipeline, FanOut, Each], Field(discriminator="pattern")]  # noqa: UP007

for _model in (Pipeline, FanOut, Each):
    _model.model_rebuild()


class Workflow(Frozen):
    """A named, versioned definition; a run keeps the one it started with."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,100}$")
    version: int = Field(default=1, ge=1)
    description: str = ""
    body: Pipeline
    agents: dict[AgentName, AgentSpec]
    timeout: float | None = Field(default=None, gt=0)
    """Seconds that a run may take."""
    budget: Budget = Budget()

    @property
    def id(self) -> str:
        """A digest of the whole definition: two definitions are the same if and only if their ids are."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


def children(node: Node) -> Iterator[tuple[str, Node]]:
    """The parts of a node with their path segments; the item of an `each` is `*`, a join is `join`."""
    match node:
        case Pipeline(stages=stages):
            yield from ((str(i), stage) for i, stage in enumerate(stages))
        case FanOut(branches=branches):
            yield from branches.items()
        case Each(body=body):
            yield "*", body
        case Leaf():
            return
    if isinstance(node, Joining) and node.join is not None:
        yield "join", Leaf(agent=node.join)


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every node below and including `node` with its static path, parents first."""
    yield path, node
    for segment, child in children(node):
        yield from walk(child, f"{path}/{segment}" if path else segment)
