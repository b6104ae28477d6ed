"""What tells tools apart that are made by one factory: the values that their functions were made with.

Results that one tool has cached answer the calls of an equal one, in any process. Two functions of a factory have
the same name, and differ by what they hold: by plain values, which can be compared across processes, and by objects,
which cannot.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import inspect
import pathlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

_PLAIN = (
    str, bytes, int, float, complex, type(None), decimal.Decimal, datetime.date, datetime.time, datetime.timedelta,
    uuid.UUID, pathlib.PurePath, enum.Enum,
)  # fmt: skip


def made_of(function: Callable[..., Any]) -> str:
    """A text that equals that of another function if both are of one place and hold equal plain values.

    Plain are values that cannot change: texts, numbers, dates, and tuples, frozen sets and frozen dataclasses of them,
    functions and classes. Of all else it is the type that counts.
    """
    return repr(_told(function, frozenset()))


def _told(value: Any, around: frozenset[int]) -> Any:
    if isinstance(value, _PLAIN):
        return type(value).__qualname__, repr(value)
    if id(value) in around:
        return "itself"
    inside = functools.partial(_told, around=around | {id(value)})
    match value:
        case tuple():
            return [inside(one) for one in value]
        case frozenset():
            return sorted(repr(inside(one)) for one in value)
        case functools.partial():
            named = sorted(value.keywords.items())
            return "partial", inside(value.func), inside(value.args), [(n, inside(one)) for n, one in named]
        case type():
            return value.__module__, value.__qualname__
    if inspect.ismethod(value):
        return inside(value.__func__), inside(value.__self__)
    if inspect.isfunction(value):
        return value.__module__, value.__qualname__, [inside(one) for one in _held(value)]
    if is_dataclass(value) and getattr(value, "__dataclass_params__").frozen:  # noqa: B009  typeshed has it not
        return inside(type(value)), [inside(getattr(value, one.name)) for one in fields(value)]
    return inside(type(value))


def _held(function: Any) -> Iterator[Any]:
    """Its defaults, and what it has from the function around it."""
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it has no value yet
            yield None
