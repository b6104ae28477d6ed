"""Checks: a function of the user's that says how good an output is."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.loading import imported
from schemas.errors import Fault, InputError
from schemas.evaluations import Case

_GIVEN = ("output", "expected", "input", "id")
_SAID = 60
"""Characters of a value that are told."""


class CheckError(Exception):
    """A check raised, or returned what is no score; the message says which."""


class Check:
    """Judges outputs."""

    def __init__(
        self,
        function: Callable[..., Any],
        takes: tuple[str, ...],
        why: Callable[[Any, Any], str] = lambda output, expected: "",
    ) -> None:
        self._function = function
        self._takes = takes
        self._why = why

    def why(self, case: Case, output: Any) -> str:
        """What of an output is not as it should be, where the check itself can tell; else nothing."""
        return self._why(output, case.expected)

    def scores(self, case: Case, output: Any) -> dict[str, float]:
        """The scores of one output, by name. Raises `CheckError`."""
        given = {"output": output, "expected": case.expected, "input": case.input, "id": case.id}
        try:
            told = self._function(**{name: given[name] for name in self._takes})
            if inspect.isawaitable(told):
                told = asyncio.run(_result(told))
        except Exception as error:
            raise CheckError(f"{type(error).__name__}: {error}") from error
        named = told if isinstance(told, Mapping) else {"score": told}
        if not named:
            raise CheckError("the check returned no score")
        return {str(name): _number(name, value) for name, value in named.items()}


def load_check(given: str | None) -> Check:
    """The function that `module:function` names; without one, a check that what comes out is what was expected.

    It takes `output`, and if it likes `expected`, `input` and `id`; it returns a bool, a number, or a dict of them.
    Raises `InputError`, and what loading an app raises.
    """
    if given is None:
        return Check(_equal, ("output", "expected"), _difference)
    module, separator, name = given.rpartition(":")
    if not separator or not name:
        raise _refused(given, "it is not like MODULE:FUNCTION")
    function = getattr(imported(module), name, None)
    if not callable(function):
        raise _refused(given, f"{module} has no function {name!r}")
    parameters = inspect.signature(function).parameters.values()
    takes = tuple(one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))
    strange = [
        one.name
        for one in parameters
        if one.name in takes and one.name not in _GIVEN and one.default is one.empty
    ]
    if strange:
        takes_it = ", ".join(strange)
        raise _refused(given, f"it takes {takes_it}, and is given only {', '.join(_GIVEN)}")
    if "output" not in takes:
        raise _refused(given, f"it must take output, not only {', '.join(takes) or 'nothing'}")
    return Check(function, tuple(one for one in takes if one in _GIVEN))


def _equal(output: Any, expected: Any) -> bool:
    return bool(output == expected)


def _difference(output: Any, expected: Any) -> str:
    if not (isinstance(output, Mapping) and isinstance(expected, Mapping)):
        return "" if _equal(output, expected) else f"{_said(output)} instead of {_said(expected)}"
    told = [f"{name}: it is missing" for name in expected if name not in output]
    told += [
        f"{name}: {_said(output[name])} instead of {_said(expected[name])}"
        for name in expected
        if name in output and not _equal(output[name], expected[name])
    ]
    more = [str(name) for name in output if name not in expected]
    return "; ".join([*told, *([f"not expected: {', '.join(more)}"] if more else [])])


def _said(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SAID else f"{text[:_SAID]}…"


async def _result(told: Any) -> Any:
    return await told


def _number(name: Any, value: Any) -> float:
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    what = "the check returned" if name == "score" else f"the check's {name!r} is"
    raise CheckError(f"{what} {value!r} instead of true, false or a number")


def _refused(given: str, reason: str) -> InputError:
    return InputError(
        f"--check {given}",
        [Fault("", reason)],
        next_step="write def judge(output, expected) -> bool, and name it: --check MODULE:judge",
    )
