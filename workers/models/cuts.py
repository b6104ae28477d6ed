"""How much an agent is told at most, and what is cut first where that is more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from schemas.agents import JsonSchema
from schemas.errors import Fault
from workers.agent import Agent

CHARACTERS = 4
"""Of a token, about: what a provider counts is known after the call only, and its vocabulary would be downloaded."""
MARK = "… [cut]"


@dataclass(frozen=True)
class Drop:
    """Leave a field out, such as `input.notes`, or `intent`, the original request."""

    field: str


@dataclass(frozen=True)
class Truncate:
    """Keep so many tokens of the beginning of a field: of a text, or of a list its first items."""

    field: str
    tokens: int


@dataclass(frozen=True)
class Summarise:
    """Put in place of a field what another agent makes of it, which takes a text; at most so many tokens of that."""

    field: str
    by: Agent
    tokens: int = 500


Policy = Drop | Truncate | Summarise


@dataclass(frozen=True)
class ContextBudget:
    """The tokens that a model agent is told at most: its instructions, its input, its session, and what tools give.

    A token is about four characters. Where its input is more than that, it is cut by `policy`, one after the other,
    until it fits; then results of tools are, the oldest first. What cannot be made to fit fails the step for good.
    """

    tokens: int
    policy: Sequence[Policy] = ()

    def faults(self, schema: JsonSchema) -> Iterator[Fault]:
        """What is wrong with it for an input of this schema."""
        if self.tokens < 1:
            yield Fault("context/tokens", "it must be positive")
        for index, cut in enumerate(self.policy):
            where = f"context/policy/{index}"
            yield from (Fault(where, said) for said in _wrong_field(cut, schema))
            if not isinstance(cut, Drop) and cut.tokens < 1:
                yield Fault(where, "tokens must be positive")
            if isinstance(cut, Summarise):
                yield from (Fault(where, said) for said in _wrong_writer(cut.by))


def _wrong_field(cut: Policy, schema: JsonSchema) -> Iterator[str]:
    root, _, below = cut.field.partition(".")
    if root not in ("input", "intent"):
        yield f"{cut.field!r} is no field: it begins with input or intent, such as input.notes"
    elif cut.field == "input" and isinstance(cut, Drop):
        yield "without its input an agent has nothing to do"
    elif root == "input" and below and "properties" in schema:
        name = below.partition(".")[0]
        if name not in schema["properties"]:
            yield f"the input has no field {name!r}"


def _wrong_writer(by: object) -> Iterator[str]:
    if not isinstance(by, Agent):
        yield "whoever summarises is an agent, not its name: it runs where this one does"
    elif by.input.json_schema().get("type") != "string":
        yield f"{by.name} does not take a text, so it cannot summarise one"
    elif by.takes_context and not by.spec.is_async:
        yield f"{by.name} takes a context in a thread: whoever summarises is async, or takes a text only"


class Told(NamedTuple):
    """What a model is told of its step."""

    input: Any
    intent: Any
    """None where it is no other than the input."""

    @property
    def text(self) -> str:
        said = self.input if isinstance(self.input, str) else json.dumps(self.input, ensure_ascii=False)
        if self.intent is None:
            return said
        return f"{said}\n\nThe original request: {json.dumps(self.intent, ensure_ascii=False)}"

    @property
    def tokens(self) -> int:
        return tokens_of(self.text)

    def at(self, field: str) -> Any:
        """What stands there; None if nothing does."""
        value: Any = self._asdict()
        for name in field.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return value

    def put(self, field: str, value: Any) -> Told:
        """With something else there; with None nothing is."""
        return Told(**_put({**self._asdict()}, field.split("."), value))


def _put(data: Mapping[str, Any], names: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = names
    if rest:
        return {**data, first: _put(data[first], rest, value)}
    if value is None and first not in Told._fields:
        return {name: one for name, one in data.items() if name != first}
    return {**data, first: value}


def tokens_of(value: Any) -> int:
    """About how many tokens this is, as text or as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return -(-len(text) // CHARACTERS)


def shortened(value: Any, tokens: int) -> Any:
    """Its beginning, with a mark where it was cut; the value itself if it is not longer."""
    if tokens_of(value) <= tokens:
        return value
    if isinstance(value, list):
        kept = list(value)
        while kept and tokens_of([*kept, MARK]) > tokens:
            del kept[len(kept) * tokens // max(tokens_of([*kept, MARK]), tokens + 1) :]
        return [*kept, MARK]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[: max(0, tokens * CHARACTERS - len(MARK))] + MARK
