"""What stages produce, as JSON schemas, and in which shape it is handed to whoever asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.agents import JsonSchema
from schemas.workflows import Each, FanOut


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
class Value:
    """One value of a schema; an unknown schema (that of the run's own input) is empty."""

    schema: JsonSchema

    def shaped(self, wanted: JsonSchema) -> tuple[Shape, JsonSchema]:
        return Shape.NAMED, self.schema

    @property
    def plain(self) -> JsonSchema:
        return self.schema


@dataclass(frozen=True)
class Unjoined:
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
        shape = shape_of(wanted, self.node)
        match shape:
            case Shape.LIST:
                return shape, self.listed()
            case Shape.GATHERED:
                return shape, self._gathered()
        return shape, self._named(gaps=shape is Shape.NAMED_WITH_GAPS)

    def listed(self) -> JsonSchema:
        return {"type": "array", "items": {"anyOf": list(self.outputs.values())}}

    def _gathered(self) -> JsonSchema:
        return object_of({"results": self.listed(), "gaps": GAPS})

    def _named(self, *, gaps: bool = True) -> JsonSchema:
        null = {"type": "null"}
        fields = {k: {"anyOf": [v, null]} if self.partial else v for k, v in self.outputs.items()}
        return object_of(fields | ({"gaps": GAPS} if gaps else {}))


Produced = Value | Unjoined


def shape_of(wanted: JsonSchema, node: FanOut | Each) -> Shape:
    """How an agent that asks for this input is given the results of a fan-out."""
    fields = wanted.get("properties", {})
    if wanted.get("type") == "array":
        return Shape.LIST
    if {"results", "gaps"} <= set(fields) or isinstance(node, Each):
        return Shape.GATHERED
    return Shape.NAMED_WITH_GAPS if "gaps" in fields else Shape.NAMED


def one_of(produced: Sequence[Produced]) -> Produced:
    """What one of several ways produces."""
    schemas: list[JsonSchema] = []
    for one in produced:
        if one.plain not in schemas:
            schemas.append(one.plain)
    if len(schemas) == 1:
        return produced[0]
    return Value({} if {} in schemas else {"anyOf": schemas})


GAPS: JsonSchema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("branch", "state", "reason")},
        "required": ["branch", "state", "reason"],
    },
}


def object_of(fields: dict[str, JsonSchema]) -> JsonSchema:
    return {"type": "object", "properties": fields, "required": list(fields)}
