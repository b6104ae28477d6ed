"""What an agent is told of its step, by its fields, and how long that is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workers.slices import matches

CHARACTERS = 4
"""Of a token, about: what a provider counts is known after the call only, and its vocabulary would be downloaded."""
MARK = "… [cut]"

Place = tuple[str, ...]
"""Where something stands in what is told, such as `("input", "notes")`."""


class Told(NamedTuple):
    """What an agent is told of its step."""

    input: Any
    intent: Any
    """None where it is no other than the input."""
    state: Mapping[str, Any] | None = None
    """By name, what it has declared of the state that agents share; None if it is told nothing of it."""

    @property
    def text(self) -> str:
        said = self.input if isinstance(self.input, str) else json.dumps(self.input, ensure_ascii=False)
        if self.intent is not None:
            said += f"\n\nThe original request: {json.dumps(self.intent, ensure_ascii=False)}"
        if self.state:
            said += f"\n\nWhat the agents of this run share: {json.dumps(self.state, ensure_ascii=False)}"
        return said

    @property
    def tokens(self) -> int:
        return tokens_of(self.text)

    def places(self, field: str) -> list[Place]:
        """Where that field is. Names of the state may have dots, and `state.draft.*` are several."""
        root, _, name = field.partition(".")
        if root == "state" and name:
            return [(root, one) for one in self.state or () if matches(name, one)]
        return [tuple(field.split("."))]

    def at(self, place: Place) -> Any:
        """What stands there; None if nothing does."""
        value: Any = self._asdict()
        for name in place:
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return value

    def put(self, place: Place, value: Any) -> Told:
        """With something else there; with None nothing is."""
        return Told(**_put({**self._asdict()}, place, value))


def _put(data: Mapping[str, Any], place: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = place
    if rest:
        return {**data, first: _put(data[first], rest, value)}
    if value is None and first not in Told._fields:
        return {name: one for name, one in data.items() if name != first}
    return {**data, first: value}


def tokens_of(value: Any) -> int:
    """About how many tokens this is, as text or as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return -(-len(text) // CHARACTERS)


def shortened(value: Any, tokens: int, *, marked: bool = True) -> Any:
    """Its beginning, with a mark where it was cut; the value itself if it is not longer.

    A list that is not to be `marked` keeps the type of its items.
    """
    if tokens_of(value) <= tokens:
        return value
    if isinstance(value, list):
        kept, end = list(value), [MARK] if marked else []
        while kept and tokens_of([*kept, *end]) > tokens:
            del kept[len(kept) * tokens // max(tokens_of([*kept, *end]), tokens + 1) :]
        return [*kept, *end]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[: max(0, tokens * CHARACTERS - len(MARK))] + MARK
