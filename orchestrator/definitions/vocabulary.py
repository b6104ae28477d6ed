"""The Python form of workflows: sugar over the models of `schemas.workflows`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator.definitions.compile import compile_workflow
from schemas.agents import AgentSpec
from schemas.base import Frozen
from schemas.errors import DefinitionError, Fault
from schemas.usage import Budget
from schemas.workflows import (
    MAX_ITEMS,
    MAX_ROUNDS,
    Approve,
    Child,
    Each,
    FanOut,
    Leaf,
    Loop,
    Node,
    Pipeline,
    Require,
    Route,
    Rule,
    Stage,
    WaitFor,
    Workflow,
)

N = TypeVar("N", bound=Frozen)

NOTHING: Any = object()
"""Stands for no default, which None is not."""


class Composable(ABC):
    """Whatever can stand in a workflow: `a >> b` makes a pipeline of it."""

    @property
    @abstractmethod
    def part(self) -> Part:
        """This as a piece of a workflow."""

    def needs(self) -> tuple[str, ...]:
        """The agents of its app that it needs by their names."""
        return ()

    def misnamed(self, agents: Mapping[str, Composable]) -> Iterator[str]:
        """What is wrong with those, all of which are there."""
        yield from ()

    def __rshift__(self, after: Composable) -> Part:
        left, right = self.part, after.part
        return Part(Pipeline(stages=(*_stages(left.node), *_stages(right.node))), left.agents + right.agents)

    def when(self, condition: str) -> Part:
        """This only where a condition over `input` holds; otherwise the input is passed on."""
        return _wrapped(self.part, when=condition)

    def optional(self) -> Part:
        """This, but if it fails its input is passed on, and the run is degraded."""
        return _wrapped(self.part, optional=True)

    def otherwise(self, fallback: Composable) -> Part:
        """This, and `fallback` on the same input if it fails."""
        return Part(
            _wrapped(self.part, fallback=fallback.part.node).node, self.part.agents + fallback.part.agents
        )


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
    parts = named_parts("fan_out(...)", "branch", branches, named)
    if not parts:
        raise DefinitionError("fan_out(...)", [Fault("", "it has no branches")])
    node = FanOut(
        branches={name: part.node for name, part in parts.items()},
        join=agent_name(join),
        require=require,
        within=within,
        parallel=parallel,
    )
    return Part(node, agents_of(*parts.values(), join))


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
        join=agent_name(join),
        require=require,
        within=within,
        parallel=parallel,
        max_items=max_items,
    )
    return Part(node, agents_of(body, join))


def pipeline(*stages: Composable, stop_when: str | None = None) -> Part:
    """Stages one after the other, like `a >> b`; `stop_when` is a condition over the `output` of each."""
    nodes = tuple(stage.part.node for stage in stages)
    return Part(Pipeline(stages=nodes, stop_when=stop_when), agents_of(*stages))


def rule(
    name: str, *, go: str, when: str | None = None, keywords: tuple[str, ...] = (), field: str | None = None
) -> Rule:
    """A rule of a router: a condition over `input`, or words that occur in its texts (or in one `field`)."""
    return Rule(name=name, go=go, when=when, keywords=keywords, field=field)


def route(
    *choices: Composable,
    fallback: str | Composable,
    rules: Iterable[Rule] = (),
    by: Composable | None = None,
    threshold: float = 0.0,
    **named: Composable,
) -> Part:
    """One of several ways for an input: by the first rule that holds, else by an agent, else the fallback.

    `by` returns a `schemas.Choice`; a choice that is unknown or less confident than `threshold` goes to the
    fallback, which is the name of a choice or a way of its own, called `fallback`. Raises `DefinitionError`.
    """
    ways = named_parts("route(...)", "choice", choices, named)
    if isinstance(fallback, Composable):
        node = fallback.part.node
        name = node.agent if isinstance(node, Leaf) else "fallback"
        ways.setdefault(name, fallback.part)
    else:
        name = fallback
    made = Route(
        choices={way: part.node for way, part in ways.items()},
        rules=tuple(rules),
        by=agent_name(by, "router"),
        threshold=threshold,
        fallback=name,
    )
    return Part(made, agents_of(*ways.values(), by))


def loop(
    body: Composable,
    *,
    until: str | None = None,
    score: str | None = None,
    max_rounds: int = MAX_ROUNDS,
) -> Part:
    """The body again and again on its own output, until a condition holds, nothing changes, or the bound is hit.

    `until` is a condition over `output`, `input` and `round`; `score` a number over `output`, by which the best round
    is chosen when the bound is hit.
    """
    node = Loop(body=body.part.node, until=until, score=score, max_rounds=max_rounds)
    return Part(node, agents_of(body))


def approve(
    name: str,
    *,
    message: str = "",
    risk: str = "high",
    confidence: str | None = None,
    threshold: float | None = None,
    approvers: Iterable[str] = (),
    expires: float | None = None,
    default: Literal["approve", "reject"] = "reject",
    escalate_to: Iterable[str] = (),
    escalate_after: float | None = None,
) -> Part:
    """A person's look at what comes by; it goes on as it is, or as that person edits it. No worker waits meanwhile.

    `risk` is `low` (goes on), `medium` (goes on, and people are told) or `high` (waits), or a condition over `input`
    that gives one of them. From a `confidence` of `threshold` on nobody is asked. After `expires` seconds `default`
    is decided. A rejection fails the step; `.otherwise(...)` and `.optional()` catch it. All of it is described at
    `schemas.workflows.Approve`.
    """
    node = Approve(
        name=name,
        message=message,
        risk=risk,
        confidence=confidence,
        threshold=threshold,
        approvers=tuple(approvers),
        expires=expires,
        default=default,
        escalate_to=tuple(escalate_to),
        escalate_after=escalate_after,
    )
    return Part(node)


def wait_for(
    type: str,
    *,
    key: str | None = None,
    when: str | None = None,
    within: float | None = None,
    default: Any = NOTHING,
    lookback: float | None = None,
    output: Any = None,
) -> Part:
    """An event from outside (see `Client.emit`), whose payload goes on as an `output`. No worker waits meanwhile.

    `key` is over `input`, `when` over `event` and `input`. An event counts that came since the run was submitted, so
    one that is early is not lost; or since `lookback` seconds before the wait. One that a step before this one has
    taken does not count. After `within` seconds the step fails, or gives `default`. Raises `DefinitionError`.
    """
    node = made_node(
        WaitFor,
        f"wait_for({type!r}, ...)",
        type=type,
        key=key,
        when=when,
        within=within,
        default=None if default is NOTHING else TypeAdapter(Any).dump_python(default, mode="json"),
        has_default=default is not NOTHING,
        lookback=lookback,
        output={} if output is None else TypeAdapter(output).json_schema(),
    )
    return Part(node)


def child(of: Workflow, *, wait: bool = True) -> Part:
    """A run of its own of another workflow: it takes the input of the stage, and its output is that of the stage.

    If it fails, the stage fails; what cancels, pauses, resumes or ends the run around it reaches it, and what it
    consumes counts there, too. With `wait=False` the stage ends at once with `{"run": id}`, and that run lives on by
    itself.
    """
    return Part(Child(workflow=of, wait=wait))


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


def named_parts(
    what: str, kind: str, unnamed: Sequence[Composable], named: Mapping[str, Composable]
) -> dict[str, Part]:
    """Parts by name; an agent is called like itself. Raises `DefinitionError`."""
    parts, faults = dict[str, Part](), list[Fault]()
    for index, one in enumerate(unnamed):
        node = one.part.node
        if not isinstance(node, Leaf):
            faults.append(
                Fault(f"{kind} {index}", f"a {node.pattern} needs a name: {what.replace('...', 'name=...')}")
            )
        elif node.agent in parts:
            faults.append(Fault(f"{kind} {index}", f"{node.agent!r} is there twice: name one of them"))
        else:
            parts[node.agent] = one.part
    for name, one in named.items():
        if name in parts:
            faults.append(Fault(f"{kind} {name}", "is there twice"))
        parts[name] = one.part
    if faults:
        raise DefinitionError(what, faults)
    return parts


def made_node(model: type[N], what: str, **fields: Any) -> N:
    """The node with these fields. Raises `DefinitionError` with every one that is out of its bounds."""
    try:
        return model(**fields)
    except ValidationError as error:
        faults = [Fault(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        raise DefinitionError(what, faults) from None


def _wrapped(part: Part, **changes: Any) -> Part:
    """The part as a stage with these properties, on top of those it has already."""
    node = part.node
    if isinstance(node, Stage) and not any(getattr(node, name) for name in changes):
        return Part(node.model_copy(update=changes), part.agents)
    return Part(Stage(body=node, **changes), part.agents)


def _stages(node: Node) -> tuple[Node, ...]:
    return node.stages if isinstance(node, Pipeline) and node.stop_when is None else (node,)


def agents_of(*parts: Composable | None) -> tuple[AgentSpec, ...]:
    return tuple(spec for part in parts if part is not None for spec in part.part.agents)


def agent_name(one: Composable | None, role: str = "join") -> str | None:
    if one is None:
        return None
    node = one.part.node
    if not isinstance(node, Leaf):
        raise DefinitionError(f"{role}=", [Fault("", f"a {role} is an agent, not a {node.pattern}")])
    return node.agent
