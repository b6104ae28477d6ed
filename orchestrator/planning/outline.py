"""How a workflow looks, whoever draws it: boxes, in series and beside each other, in frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.tree import children
from schemas.workflows import (
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


class Form(StrEnum):
    """What a box stands for."""

    AGENT = "agent"
    END = "end"
    """Where the input comes in, or the output goes out."""
    PERSON = "person"
    """Waits for somebody or something outside."""
    RESULTS = "results"
    """Results that nobody joins."""
    CHOICE = "choice"
    RUN = "run"
    """A run of its own."""


@dataclass(frozen=True)
class Box:
    """One thing with a name."""

    text: str
    form: Form = Form.AGENT


@dataclass(frozen=True)
class Series:
    """One after the other."""

    parts: tuple[Shape, ...]


@dataclass(frozen=True)
class Frame:
    """What belongs together, beside each other, under a title."""

    title: str
    inside: tuple[Shape, ...]


@dataclass(frozen=True)
class Fork:
    """A choice: one of the ways is taken; `asked` is whom it asks."""

    head: Box
    ways: tuple[tuple[str, Shape], ...]
    asked: Box | None = None


Shape = Box | Series | Frame | Fork


def outline(workflow: Workflow) -> Series:
    """The whole workflow, from its input to its output."""
    inside = _shape(workflow.body)
    stages = inside.parts if isinstance(inside, Series) else (inside,)
    return Series((Box("input", Form.END), *stages, Box("output", Form.END)))


def _shape(node: Node) -> Shape:
    match node:
        case Leaf(agent=agent):
            return Box(agent)
        case Approve() | WaitFor():
            return Box(title(node), Form.PERSON)
        case Child():
            return Box(title(node), Form.RUN)
        case Pipeline(stages=stages):
            return Series(tuple(_shape(stage) for stage in stages))
        case FanOut() | Each():
            join = Box(node.join) if node.join is not None else Box("results", Form.RESULTS)
            return Series((Frame(title(node), _parts(node, but="join")), join))
        case Route(choices=choices, by=by):
            ways = tuple((name, _shape(way)) for name, way in choices.items())
            return Fork(Box(title(node), Form.CHOICE), ways, Box(by) if by is not None else None)
        case Round(supervisor=of):
            return Series((Box(of.planner), _shape(node.work.body), Box(of.reviewer)))
        case Debate(debaters=debaters, judge=judge):
            positions = Frame(title(node), tuple(_shape(one) for one in debaters.values()))
            return positions if judge is None else Series((positions, Box(judge)))
        case _:
            parts = _parts(node)
            return Frame(title(node), parts) if parts else Box(title(node), Form.PERSON)


def _parts(node: Node, but: str = "") -> tuple[Shape, ...]:
    return tuple(_shape(part) for segment, part in children(node) if segment != but)


def title(node: Node) -> str:
    """What a node is, in the words of its definition."""
    match node:
        case Stage():
            return _stage_title(node)
        case Route(rules=rules, fallback=fallback):
            return f"route: {len(rules)} rule{'s' if len(rules) != 1 else ''}, else {fallback}"
        case Loop(until=until, max_rounds=most):
            return f"loop until {until or 'nothing changes'}, at most {_rounds(most)}"
        case Approve(name=name, risk=risk):
            return f"approve {name}" + (f", risk {risk}" if risk != "high" else "")
        case WaitFor(type=type_, key=key):
            return f"wait for {type_}" + (f", {key}" if key else "")
        case Supervise(max_rounds=most, within=within):
            return f"supervise, at most {_rounds(most)}" + (f", each within {within:g} s" if within else "")
        case Assigned():
            return "assignments to workers"
        case Debate(mode=mode, quorum=quorum):
            return f"debate, {mode}" + (f" of {quorum}" if quorum else "")
        case Child(workflow=other, wait=wait):
            return other.name if wait else f"{other.name}, let go"
        case FanOut() | Each():
            return _joined_title(node)
    return node.pattern


def _rounds(number: int) -> str:
    return f"{number} round{'s' if number != 1 else ''}"


def _stage_title(node: Stage) -> str:
    parts = [f"when {node.when}"] if node.when else []
    parts += ["optional"] if node.optional else []
    parts += ["or else"] if node.fallback is not None else []
    return ", ".join(parts) or "stage"


def _joined_title(node: FanOut | Each) -> str:
    if isinstance(node, Each):
        parts = [f"each of {node.items}" if node.items else "each", f"up to {node.max_items:,}"]
    else:
        parts = ["fan-out"]
    if node.require != "all":
        parts.append(f"require {node.require}")
    if node.within is not None:
        parts.append(f"within {node.within:g} s")
    if node.parallel is not None:
        parts.append(f"{node.parallel} at a time")
    return ", ".join(parts)
