"""What a workflow means, said a second time in plain Python; and a generator of random workflows."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.vocabulary import Composable, each, fan_out, workflow
from schemas.errors import DefinitionError
from schemas.workflows import Each, FanOut, Joining, Leaf, Node, Pipeline, Workflow
from tests.integration.engine.bench import Boom, named

LISTED = {"type": "array"}
_GAPS = {"gaps": {"type": "array"}}
AGENTS = {
    "mark": named("mark"),
    "weak": named("weak"),
    "spread": named("spread"),
    "listing": named("listing", takes=LISTED),
    "gathering": named("gathering", takes={"type": "object", "properties": {"results": LISTED, **_GAPS}}),
    "noticing": named("noticing", takes={"type": "object", "properties": _GAPS}),
}


def act(agent: str, value: Any) -> Any:
    """What each agent does: the same for the same input; `weak` fails for about a third of all inputs."""
    digest = hashlib.sha256(f"{agent} {json.dumps(value, sort_keys=True)}".encode()).hexdigest()
    number = int(digest[:8], 16)
    if agent == "weak" and number % 3 == 0:
        raise Boom(f"weak about {digest[:6]}")
    if agent == "spread":
        return [f"{digest[:4]}.{n}" for n in range(number % 4)]
    return f"{agent} {digest[:8]}"


@dataclass(frozen=True)
class Value:
    """One plain value."""

    value: Any


@dataclass(frozen=True)
class Branches:
    """The results of a fan-out or an each that nobody joined: a value for each branch, or why there is none."""

    node: Joining
    names: Sequence[str]
    ends: Sequence[Value | Boom]

    @property
    def outputs(self) -> list[Any]:
        return [end.value for end in self.ends if isinstance(end, Value)]

    @property
    def gaps(self) -> list[dict[str, str]]:
        return [
            {"branch": name, "state": "failed", "reason": str(end)}
            for name, end in zip(self.names, self.ends, strict=True)
            if isinstance(end, Boom)
        ]

    @property
    def named(self) -> dict[str, Any]:
        ends = zip(self.names, self.ends, strict=True)
        return {name: end.value if isinstance(end, Value) else None for name, end in ends}

    @property
    def gathered(self) -> dict[str, Any]:
        return {"results": self.outputs, "gaps": self.gaps}

    @property
    def natural(self) -> Any:
        return self.gathered if isinstance(self.node, Each) else {**self.named, "gaps": self.gaps}


def meaning(definition: Workflow, value: Any) -> tuple[str, Any]:
    """How a run ends: `("completed", output)` or `("failed", message)`."""
    try:
        return "completed", _natural(_run(definition.body, Value(value), ""))
    except Boom as boom:
        return "failed", str(boom)


def _run(node: Node, given: Value | Branches, path: str) -> Value | Branches:
    match node:
        case Leaf(agent=agent):
            return Value(act(agent, _for(agent, given)))
        case Pipeline(stages=stages):
            for index, stage in enumerate(stages):
                given = _run(stage, given, _below(path, str(index)))
            return given
        case FanOut(branches=branches):
            ends = [_end(branch, given, _below(path, name)) for name, branch in branches.items()]
            return _joined(node, list(branches), ends, path)
        case Each(body=body):
            items = given.outputs if isinstance(given, Branches) else given.value
            if not isinstance(items, list):
                raise Boom(f"each needs a list, but its input is {_kind(items)}")
            ends = [_end(body, Value(item), f"{path}/{n}") for n, item in enumerate(items)]
            return _joined(node, [str(n) for n in range(len(items))], ends, path)


def _end(node: Node, given: Value | Branches, path: str) -> Value | Boom:
    try:
        return Value(_natural(_run(node, given, path)))
    except Boom as boom:
        return boom


def _joined(node: FanOut | Each, names: list[str], ends: list[Value | Boom], path: str) -> Value | Branches:
    required, done = node.required(len(ends)), sum(isinstance(end, Value) for end in ends)
    if done < required:
        bad, why = next((n, e) for n, e in zip(names, ends, strict=True) if isinstance(e, Boom))
        raise Boom(f"{done} of {len(ends)} branches succeeded, {required} are required; {path}/{bad}: {why}")
    results = Branches(node, names, ends)
    return results if node.join is None else Value(act(node.join, _for(node.join, results)))


def _for(agent: str, given: Value | Branches) -> Any:
    if isinstance(given, Value):
        return given.value
    if agent == "listing":
        return given.outputs
    if agent == "gathering" or isinstance(given.node, Each):
        return given.gathered
    return {**given.named, "gaps": given.gaps} if agent == "noticing" else given.named


def _natural(given: Value | Branches) -> Any:
    return given.value if isinstance(given, Value) else given.natural


def _kind(value: Any) -> str:
    return {str: "string", dict: "object", int: "number", type(None): "null"}[type(value)]


def _below(path: str, segment: str) -> str:
    return f"{path}/{segment}" if path else segment


class Generator:
    """Random nested workflows, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def workflow(self, name: str) -> Workflow:
        """One that compiles."""
        while True:
            try:
                return workflow(name, self._part(3))
            except DefinitionError:
                continue  # a bare list where a branch may be missing, say

    def _part(self, depth: int) -> Composable:
        pick = self.rng.random()
        if depth == 0 or pick < 0.2:
            return self._agent()
        if pick < 0.5:
            part = self._part(depth - 1)
            for _ in range(self.rng.randint(1, 3)):
                part = part >> self._part(depth - 1)
            return part
        if pick < 0.75:
            names = [f"b{n}" for n in range(self.rng.randint(1, 4))]
            branches = {name: self._part(depth - 1) for name in names}
            return fan_out(**branches, **self._joining(len(branches)))
        return AGENTS["spread"] >> each(self._part(depth - 1), **self._joining(2))

    def _joining(self, branches: int) -> dict[str, Any]:
        return {
            "join": self._agent() if self.rng.random() < 0.5 else None,
            "require": self.rng.choice(["all", "any", "quorum", 1, branches]),
            "parallel": self.rng.choice([None, None, 1, 2]),
            "within": self.rng.choice([None, None, 3600]),
        }

    def _agent(self) -> Composable:
        return self.rng.choice([*AGENTS.values(), AGENTS["weak"]])
