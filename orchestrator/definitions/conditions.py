"""Conditions over values, in the Common Expression Language: typed, without loops or side effects, in microseconds."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from schemas.errors import Permanent

_BOUND = re.compile(r"\.(?:all|exists|exists_one|filter|map)\(\s*([A-Za-z_]\w*)\s*,")


class ConditionError(Permanent):
    """A condition could not be evaluated on a value."""


def fault(text: str, names: Collection[str]) -> str | None:
    """What is wrong with a condition that may use these names; None if nothing is."""
    try:
        program = _program(text)
    except ValueError as error:
        return f"{text!r} is no condition: {_last_line(error)}"
    unknown = set(program.variables()) - set(names) - set(_BOUND.findall(text))
    if unknown:
        return f"{text!r} uses {', '.join(sorted(unknown))}; it may use {', '.join(sorted(names))}"
    return None


def uses(text: str, name: str) -> bool:
    """Whether a condition that has no fault uses a name."""
    return name in _program(text).variables()


def holds(text: str, values: Mapping[str, Any]) -> bool:
    """Whether a condition holds. Raises `ConditionError` if it cannot be told, or is no yes or no."""
    found = result(text, values)
    if not isinstance(found, bool):
        raise ConditionError(f"the condition {text!r} gave {found!r} instead of true or false")
    return found


def number(text: str, values: Mapping[str, Any]) -> float:
    """The number that an expression gives. Raises `ConditionError` if it gives none."""
    found = result(text, values)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConditionError(f"the expression {text!r} gave {found!r} instead of a number")
    if not math.isfinite(found):
        raise ConditionError(f"the expression {text!r} gave {found!r}, which is no number to go by")
    return float(found)


def result(text: str, values: Mapping[str, Any]) -> Any:
    """What an expression gives. Raises `ConditionError` if it cannot be told."""
    try:
        return _program(text).execute(dict(values))
    except KeyError as error:
        raise ConditionError(f"the condition {text!r} needs {error}, which is not there") from None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ConditionError(f"the condition {text!r} could not be evaluated: {_last_line(error)}") from None


@lru_cache(maxsize=1_000)
def _program(text: str) -> Any:
    import cel  # with it comes a command line of its own, which takes a while

    return cel.compile(text)


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("|")]
    return lines[0] if lines else type(error).__name__
