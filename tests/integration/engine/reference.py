"""What a workflow means, said a second time in plain Python; and a generator of random workflows."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.definitions.teams import debate, supervise
from orchestrator.definitions.vocabulary import (
    Composable,
    approve,
    child,
    each,
    fan_out,
    loop,
    pipeline,
    route,
    rule,
    wait_for,
    workflow,
)
from schemas.debates import Case, Verdict
from schemas.errors import DefinitionError
from schemas.supervision import Assignments, Brief, Review
from schemas.workflows import (
    RISKS,
    Approve,
    Child,
    Debate,
    Each,
    FanOut,
    Joining,
    Leaf,
    Loop,
    Node,
    Pipeline,
    Route,
    Stage,
    Supervise,
    WaitFor,
    Workflow,
)
from tests.integration.engine import deliberation
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


_BRIEF = Brief.model_json_schema()
PLANNING = named("planning", takes=_BRIEF, gives=Assignments.model_json_schema())
REVIEWING = named("reviewing", takes=_BRIEF, gives=Review.model_json_schema())
JUDGING = named("judging", takes=Case.model_json_schema(), gives=Verdict.model_json_schema())
CHOOSING = named("choosing", gives={"type": "object", "properties": {"choice": {"type": "string"}}})


def act(agent: str, value: Any) -> Any:
    """What each agent does: the same for the same input; `weak` fails for about a third of all inputs."""
    value = nameless(value)
    digest = hashlib.sha256(f"{agent} {deliberation.digested(agent, value)}".encode()).hexdigest()
    number = int(digest[:8], 16)
    if agent in ("planning", "reviewing", "judging"):
        return deliberation.act(agent, value, number, digest)
    if agent == "weak" and number % 3 == 0:
        raise Boom(f"weak about {digest[:6]}")
    if agent == "choosing":
        return {"choice": f"b{number % 5}", "confidence": number % 11 / 10}
    if agent == "spread":
        return [f"{digest[:4]}.{n}" for n in range(number % 4)]
    return f"{agent} {digest[:8]}"


TOLD = "told"
"""What every event says that steps wait for."""


def decide(value: Any) -> Any:
    """What a person says of a value: the same for the same one. Some they reject, some they edit."""
    plain = nameless(value)
    digest = hashlib.sha256(f"look {deliberation.digested('look', plain)}".encode()).hexdigest()
    number = int(digest[:8], 16)
    if number % 5 == 0:
        raise Boom(f"rejected {digest[:6]}")
    return f"edited {digest[:8]}" if number % 5 == 1 and isinstance(value, str) else value


def nameless(value: Any) -> Any:
    """A value without the ids of runs, which the reasons of failures name."""
    return json.loads(re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", json.dumps(value)))


class Late(Boom):
    """The branch had not ended when its fan-out stopped waiting."""


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
            {"branch": name, "state": "late" if isinstance(end, Late) else "failed", "reason": str(end)}
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
        return "completed", natural(_run(definition.body, Value(value), ""))
    except Boom as boom:
        return "failed", str(boom)


def _run(node: Node, given: Value | Branches, path: str) -> Value | Branches:
    match node:
        case Leaf(agent=agent):
            return Value(act(agent, handed(agent, given)))
        case Pipeline(stages=stages):
            for index, stage in enumerate(stages):
                given = _run(stage, given, below(path, str(index)))
                if node.stop_when is not None and _holds(node.stop_when, output=given):
                    break
            return given
        case FanOut(branches=branches):
            ends = [_end(branch, given, below(path, name)) for name, branch in branches.items()]
            return _joined(node, list(branches), ends, path)
        case Each(body=body):
            items = given.outputs if isinstance(given, Branches) else given.value
            if not isinstance(items, list):
                raise no_list(items)
            ends = [_end(body, Value(item), f"{path}/{n}") for n, item in enumerate(items)]
            return _joined(node, [str(n) for n in range(len(items))], ends, path)
        case Stage():
            return _staged(node, given, path)
        case Route():
            return _run(node.choices[_way(node, given)], given, below(path, _way(node, given)))
        case Loop():
            return _looped(node, given, path)
        case Approve(risk=risk):
            asks = risk == "high" or (risk not in RISKS and _holds(risk, input=given))
            said = decide(natural(given)) if asks else natural(given)
            return given if said == natural(given) else Value(said)
        case WaitFor():
            return Value(TOLD)
        case Supervise():
            return _supervised(node, given, path)
        case Debate(debaters=debaters):
            inside = f"{path}/positions"
            ends = [_end(debater, given, below(inside, name)) for name, debater in debaters.items()]
            results = gathered(node.positions, list(debaters), ends, inside)
            answers = {k: end.value for k, end in zip(debaters, ends, strict=True) if isinstance(end, Value)}
            return Value(deliberation.debated(node, natural(given), answers, results.gaps, act))
        case Child(workflow=other):
            try:
                taken = Value(_shaped(_takes(other.body), given))
                return Value(natural(_run(other.body, taken, "")))
            except Boom as boom:
                raise Boom(f"run ID of {other.name} failed: {boom}") from boom
    raise AssertionError(node)


_around: list[Supervise] = []
"""The supervisors around whatever is run just now, the outermost first."""


def _supervised(node: Supervise, given: Value | Branches, path: str) -> Value:
    def work(number: int, index: int, worker: str, value: Any) -> Any:
        way = node.round.work.body.workers[worker]  # type: ignore[union-attr]
        return natural(_run(way, Value(value), f"{path}/{number}/work/{index}/{worker}"))

    _around.append(node)
    left = min(one.depth - 1 - below for below, one in enumerate(reversed(_around)))
    deep = {name for name, worker in node.workers.items() if _levels(worker) > left}
    try:
        return Value(deliberation.supervised(node, natural(given), act, work, deep))
    finally:
        _around.pop()


def _levels(node: Node) -> int:
    """Supervisors below each other, as the JSON form nests them."""

    def deepest(part: Any) -> int:
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        here = isinstance(part, dict) and part.get("pattern") == "supervise"
        return here + max(map(deepest, inner), default=0)

    return deepest(node.model_dump(mode="json"))


def _staged(node: Stage, given: Value | Branches, path: str) -> Value | Branches:
    if node.when is not None and not _holds(node.when, input=given):
        return given
    try:
        return _run(node.body, given, below(path, "do"))
    except Boom:
        if node.fallback is None:
            if node.optional:
                return given
            raise
    try:
        return _run(node.fallback, given, below(path, "else"))
    except Boom:
        if node.optional:
            return given
        raise


def _way(node: Route, given: Value | Branches) -> str:
    for one in node.rules:
        if one.when is not None and _holds(one.when, input=given):
            return one.go
    if node.by is None:
        return node.fallback
    try:
        answer = act(node.by, handed(node.by, given))
    except Boom:
        return node.fallback
    known = answer["choice"] in node.choices and answer["confidence"] >= node.threshold
    return str(answer["choice"]) if known else node.fallback


def _looped(node: Loop, given: Value | Branches, path: str) -> Value | Branches:
    outputs: list[Value | Branches] = []
    for number in range(node.max_rounds):
        try:
            output = _run(node.body, given, f"{path}/{number}")
        except Boom:
            if not outputs:
                raise
            break
        outputs.append(output)
        if natural(output) == natural(given):
            return output
        if node.until is not None and _holds(node.until, output=output):
            return output
        given = output
    if node.score is None:
        return outputs[-1]
    return max(enumerate(outputs), key=lambda one: (_score(natural(one[1])), one[0]))[1]


def _score(text: Any) -> float:
    """The score of the generator, in Python; what has none is the worst."""
    return float(text[-1] in "01234567") if isinstance(text, str) else -math.inf


def _holds(condition: str, **given: Value | Branches) -> bool:
    """The conditions of the generator, in Python: does a value's text end in one of these digits?"""
    ((_, value),) = given.items()
    text = natural(value)
    return isinstance(text, str) and text[-1] in condition.rpartition("[")[2].partition("]")[0]


def _end(node: Node, given: Value | Branches, path: str) -> Value | Boom:
    try:
        return Value(natural(_run(node, given, path)))
    except Boom as boom:
        return boom


def _joined(node: FanOut | Each, names: list[str], ends: list[Value | Boom], path: str) -> Value | Branches:
    results = gathered(node, names, ends, path)
    return results if node.join is None else Value(act(node.join, handed(node.join, results)))


def gathered(node: Joining, names: Sequence[str], ends: Sequence[Value | Boom], path: str) -> Branches:
    """What the branches of a fan-out came to. Raises `Boom` if too few of them succeeded."""
    required, done = node.required(len(ends)), sum(isinstance(end, Value) for end in ends)
    if done < required:
        bad, why = next((n, e) for n, e in zip(names, ends, strict=True) if isinstance(e, Boom))
        raise Boom(f"{done} of {len(ends)} branches succeeded, {required} are required; {path}/{bad}: {why}")
    return Branches(node, names, ends)


def handed(agent: str, given: Value | Branches) -> Any:
    """What an agent of this name is handed: a plain value, or results in the shape that it takes."""
    return _shaped((agent,), given)


def _shaped(takes: tuple[Any, ...], given: Value | Branches) -> Any:
    if isinstance(given, Value):
        return given.value
    if takes[0] in ("listing", "each"):
        return given.outputs
    if takes[0] == "gathering" or isinstance(given.node, Each):
        return given.gathered
    return {**given.named, "gaps": given.gaps} if takes[0] == "noticing" else given.named


def _takes(node: Node) -> tuple[Any, ...]:
    """Whose input a part of a workflow takes: an agent's, that of an `each`, or anything."""
    match node:
        case Leaf(agent=agent):
            return (agent,) if agent in ("listing", "gathering", "noticing") else ("anything",)
        case Pipeline(stages=stages):
            return _takes(next((one for one in stages if not isinstance(one, Approve)), stages[0]))
        case Each(body=body, max_items=most):
            return "each", _takes(body), most
        case Loop(body=body):
            return _takes(body)
        case Child(workflow=other):
            return _takes(other.body)
        case FanOut(branches=parts) | Route(choices=parts) | Debate(debaters=parts):
            kinds = {_takes(part) for part in parts.values()}
            kinds |= {("anything",)} if getattr(node, "by", None) or getattr(node, "judge", None) else set()
        case Stage(body=body, fallback=fallback):
            kinds = {_takes(part) for part in (body, fallback) if part is not None}
        case _:
            return ("anything",)
    return kinds.pop() if len(kinds) == 1 else ("anything",)


def natural(given: Value | Branches) -> Any:
    """The value, or the results in their natural shape."""
    return given.value if isinstance(given, Value) else given.natural


def no_list(found: Any) -> Boom:
    """Why an each cannot go over this."""
    kind = {str: "string", dict: "object", int: "number", type(None): "null"}[type(found)]
    return Boom(f"each needs a list, but its input is {kind}")


def below(path: str, segment: str) -> str:
    return f"{path}/{segment}" if path else segment


class Generator:
    """Random nested workflows, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._children = 0

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
                part = part >> (self._part(depth - 1) if self.rng.random() < 0.8 else self._waiting())
            return part
        if pick < 0.75:
            names = [f"b{n}" for n in range(self.rng.randint(1, 4))]
            branches = {name: self._part(depth - 1) for name in names}
            return fan_out(**branches, **self._joining(len(branches)))
        if pick < 0.85:
            return AGENTS["spread"] >> each(self._part(depth - 1), **self._joining(2))
        kinds = [
            self._stage,
            self._route,
            self._loop,
            self._early,
            self._supervise,
            self._debate,
            self._child,
            self._child,
        ]
        return self.rng.choice(kinds)(depth - 1)

    def _waiting(self) -> Composable:
        return self._approve() if self.rng.random() < 0.7 else self._wait_for()

    def _wait_for(self) -> Composable:
        return wait_for("told", key=self.rng.choice(["'k'", "'l'", None]), within=3600.0)

    def _approve(self) -> Composable:
        risk = self.rng.choice(["high", "high", "low", "medium", self._condition("input")])
        return approve("look", risk=risk, expires=self.rng.choice([None, 3600.0]))

    def _stage(self, depth: int) -> Composable:
        part = self._part(depth)
        if self.rng.random() < 0.4:
            part = part.when(self._condition("input"))
        if self.rng.random() < 0.5:
            part = part.otherwise(self._part(depth))
        return part.optional() if self.rng.random() < 0.4 else part

    def _route(self, depth: int) -> Composable:
        names = [f"b{n}" for n in range(self.rng.randint(1, 3))]
        rules = [
            rule(f"r{n}", go=self.rng.choice(names), when=self._condition("input"))
            for n in range(self.rng.randint(1, 2))
        ]
        return route(
            **{name: self._part(depth) for name in names},
            rules=rules,
            by=self.rng.choice([None, CHOOSING]),
            threshold=self.rng.choice([0.0, 0.5]),
            fallback=self.rng.choice(names),
        )

    def _loop(self, depth: int) -> Composable:
        return loop(
            self._part(depth),
            until=self.rng.choice([None, self._condition("output")]),
            score=self.rng.choice([None, "output.matches('[01234567]$') ? 1.0 : 0.0"]),
            max_rounds=self.rng.randint(1, 4),
        )

    def _supervise(self, depth: int) -> Composable:
        names = [f"b{n}" for n in range(self.rng.randint(1, 3))]
        # Workers that take anything.
        workers = {name: AGENTS[self.rng.choice(["mark", "weak"])] >> self._part(depth) for name in names}
        return supervise(
            **workers,
            planner=PLANNING,
            reviewer=REVIEWING,
            alternatives=self.rng.choice([{}, {"b1": "b0"} if "b1" in names else {}]),
            parallel=self.rng.randint(1, 3),
            max_assignments=self.rng.choice([2, 10]),
            max_rounds=self.rng.randint(1, 3),
            within=self.rng.choice([None, 3600]),
            depth=self.rng.choice([2, 2, 2, 1]),
        )

    def _child(self, depth: int) -> Composable:
        self._children += 1
        part, name = self._part(depth), f"child-{self._children}"
        return child(workflow(name, part))

    def _debate(self, depth: int) -> Composable:
        kinds = [AGENTS["mark"], AGENTS["mark"], AGENTS["weak"], self._part(depth) >> AGENTS["mark"]]
        judged = self.rng.random() < 0.6
        mode = self.rng.choice(["judge", "majority", "unanimous"] if judged else ["majority", "unanimous"])
        return debate(
            **{f"b{n}": self.rng.choice(kinds) for n in range(self.rng.randint(2, 4))},
            judge=JUDGING if judged else None,
            rubric={"good": 2.0, "short": 1.0} if judged else None,
            mode=mode,
            undecided=self.rng.choice(["plurality", "plurality", "fail"]),
            require=self.rng.choice(["any", "any", 2]),
            parallel=self.rng.choice([None, 1]),
            within=self.rng.choice([None, 3600]),
        )

    def _early(self, depth: int) -> Composable:
        parts = [self._part(depth) for _ in range(self.rng.randint(2, 3))]
        return pipeline(*parts, stop_when=self._condition("output"))

    def _condition(self, name: str) -> str:
        digits = "".join(self.rng.sample("0123456789abcdef", 6))
        return f"type({name}) == string && {name}.matches('[{digits}]$')"

    def _joining(self, branches: int) -> dict[str, Any]:
        return {
            "join": self._agent() if self.rng.random() < 0.5 else None,
            "require": self.rng.choice(["all", "any", "quorum", 1, branches]),
            "parallel": self.rng.choice([None, None, 1, 2]),
            "within": self.rng.choice([None, None, 3600]),
        }

    def _agent(self) -> Composable:
        return self.rng.choice([*AGENTS.values(), AGENTS["weak"]])
