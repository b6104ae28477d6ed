"""Does what one stage produces fit what the next one takes? Answered on JSON Schemas.

`faults(produced, wanted)` reports what can be shown to be wrong: a missing required property, a type that
the consumer does not accept, an enum value it does not know. What cannot be decided (patterns, bounds,
formats) is left to validation at run time, so no sound workflow is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas.agents import JsonSchema
from schemas.errors import Fault

_DEPTH = 20


def faults(produced: JsonSchema, wanted: JsonSchema) -> list[Fault]:
    """Why a value of schema `produced` may not be a value of schema `wanted`; empty when it fits."""
    return list(_compare(_Side(produced), _Side(wanted), "", _DEPTH))


def inline(schema: JsonSchema) -> JsonSchema:
    """The same schema without `$ref` and `$defs`; a recursive type is cut off (to "anything") when it recurs."""
    flat: JsonSchema = _inline(schema, schema, ())
    return flat


def _inline(part: Any, root: JsonSchema, seen: tuple[str, ...]) -> Any:
    if isinstance(part, list):
        return [_inline(one, root, seen) for one in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if isinstance(reference, str):
        return {} if reference in seen else _inline(_Side(part, root).schema, root, (*seen, reference))
    return {key: _inline(value, root, seen) for key, value in part.items() if key != "$defs"}


class _Side:
    """A schema together with the root that its `$ref`s point into."""

    def __init__(self, schema: JsonSchema | bool, root: JsonSchema | None = None) -> None:
        self.root: JsonSchema = root if root is not None else (schema if isinstance(schema, dict) else {})
        self.schema: JsonSchema = self._resolve(schema)

    def at(self, schema: JsonSchema | bool) -> _Side:
        return _Side(schema, self.root)

    def _resolve(self, schema: JsonSchema | bool) -> JsonSchema:
        if not isinstance(schema, dict):
            return {}
        found: JsonSchema = schema
        while "$ref" in found:
            reference: str = found["$ref"]
            found = self.root
            for part in reference.removeprefix("#/").split("/"):
                found = found[part]
        return found

    @property
    def options(self) -> list[_Side]:
        """The alternatives of a union, or the schema itself."""
        for key in ("anyOf", "oneOf"):
            if key in self.schema:
                return [option for part in self.schema[key] for option in self.at(part).options]
        kind = self.schema.get("type")
        if isinstance(kind, list):
            return [self.at({**self.schema, "type": one}) for one in kind]
        return [self]

    @property
    def values(self) -> list[Any] | None:
        if "const" in self.schema:
            return [self.schema["const"]]
        values: list[Any] | None = self.schema.get("enum")
        return values

    @property
    def type(self) -> str | None:
        kind: str | None = self.schema.get("type")
        if kind is None and "properties" in self.schema:
            return "object"
        return kind

    def __str__(self) -> str:
        return self.schema.get("title") or self.type or "anything"


def _compare(produced: _Side, wanted: _Side, path: str, depth: int) -> Iterator[Fault]:
    if depth == 0 or not wanted.schema or not produced.schema:
        return
    accepted = wanted.options
    for option in produced.options:
        tries = [list(_compare_one(option, one, path, depth)) for one in accepted]
        if all(tries):
            yield from tries[0] if len(tries) == 1 else [_no_option(option, accepted, path)]


def _no_option(produced: _Side, accepted: list[_Side], path: str) -> Fault:
    return Fault(path, f"may be {produced}, but {' or '.join(str(one) for one in accepted)} is wanted")


def _compare_one(produced: _Side, wanted: _Side, path: str, depth: int) -> Iterator[Fault]:
    if not wanted.schema or not produced.schema:
        return
    if wanted.values is not None and produced.values is not None:
        unknown = [value for value in produced.values if value not in wanted.values]
        if unknown:
            yield Fault(path, f"may be {unknown[0]!r}, which is none of {wanted.values}")
        return
    if not _same_type(produced.type, wanted.type):
        yield Fault(path, f"is {produced}, but {wanted} is wanted")
    elif wanted.type == "object":
        yield from _compare_objects(produced, wanted, path, depth)
    elif wanted.type == "array":
        yield from _compare(
            produced.at(produced.schema.get("items", {})),
            wanted.at(wanted.schema.get("items", {})),
            f"{path}[]",
            depth - 1,
        )


def _same_type(produced: str | None, wanted: str | None) -> bool:
    return None in (produced, wanted) or produced == wanted or (produced, wanted) == ("integer", "number")


def _compare_objects(produced: _Side, wanted: _Side, path: str, depth: int) -> Iterator[Fault]:
    have = produced.schema.get("properties", {})
    # Model outputs are serialised whole, so a property with a default is there as well.
    always = set(have)
    for name in wanted.schema.get("required", ()):
        if name not in always and "additionalProperties" not in produced.schema:
            yield Fault(_join(path, name), f"is wanted but {produced} has no such field")
    for name, schema in wanted.schema.get("properties", {}).items():
        if name in have:
            yield from _compare(produced.at(have[name]), wanted.at(schema), _join(path, name), depth - 1)
    others, asked = (side.schema.get("additionalProperties") for side in (produced, wanted))
    if isinstance(others, dict) and isinstance(asked, dict):
        yield from _compare(produced.at(others), wanted.at(asked), _join(path, "*"), depth - 1)
    if wanted.schema.get("additionalProperties") is False:
        known = wanted.schema.get("properties", {})
        for name in have:
            if name not in known:
                yield Fault(_join(path, name), f"is produced but {wanted} forbids other fields")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
