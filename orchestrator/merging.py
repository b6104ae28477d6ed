"""Merge functions: what becomes of a value when another one joins it. Pure, and the order of writers may not matter."""

from __future__ import annotations

from typing import Any

from schemas.errors import Permanent
from schemas.state import Merge


class MergeError(Permanent):
    """Two values cannot be merged in this way."""


def merged(how: Merge, old: Any, new: Any) -> Any:
    """The value after the merge; `old` is None where there was none. Raises `MergeError`."""
    match how:
        case Merge.REPLACE:
            return new
        case Merge.APPEND:
            return [*_list(how, old), new]
        case Merge.UNION:
            return _union(_list(how, old), _list(how, new))
    if old is None:
        return _number(how, new)
    mine, theirs = _number(how, old), _number(how, new)
    match how:
        case Merge.ADD:
            return mine + theirs
        case Merge.MAX:
            return max(mine, theirs)
        case Merge.MIN:
            return min(mine, theirs)


def _union(old: list[Any], new: list[Any]) -> list[Any]:
    found = list[Any]()
    for one in (*old, *new):
        # As JSON has it: True is not 1.
        if not any(type(one) is type(known) and one == known for known in found):
            found.append(one)
    return found


def _list(how: Merge, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise MergeError(f"{how} needs a list, not {value!r:.100}")
    return value


def _number(how: Merge, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MergeError(f"{how} needs a number, not {value!r:.100}")
    return value
