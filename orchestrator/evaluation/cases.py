"""Files of cases: one JSON object in each line. Whatever is wrong is named at once, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jsonschema_rs

from orchestrator.intake.submitter import json_text
from schemas.agents import JsonSchema
from schemas.errors import Fault, InputError
from schemas.evaluations import Case

_FIELDS = ("id", "input", "expected")
_LONGEST_ID = 200

Look = Callable[[Case], Iterator[str]]
"""What else is wrong with a case."""


def read_cases(text: str, name: str, schema: JsonSchema, *looks: Look) -> list[Case]:
    """The cases of a file, whose inputs fit `schema`.

    `{"input": ..., "expected": ..., "id": ...}`; only `input` must be there, a case without an id is called like its
    line. Raises `InputError` naming every line that is wrong, and why.
    """
    faults: list[Fault] = []
    cases: list[Case] = []
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            found = _case(content, line)
            if isinstance(found, Case):
                cases.append(found)
            else:
                faults += [Fault(f"line {line}", one) for one in found]
    validator = jsonschema_rs.Draft202012Validator(schema)
    for case in cases:
        wrong = [*_misfits(case, validator), *(one for look in looks for one in look(case))]
        faults += [Fault(f"line {case.line}", one) for one in wrong]
    faults += _twice(cases)
    if not cases and not faults:
        faults.append(Fault("", "it holds no case"))
    if faults:
        raise InputError(name, sorted(faults, key=_line_of), next_step="mend these lines; nothing has run")
    return cases


def expects_something(case: Case) -> Iterator[str]:
    """A case without an expectation can only be judged by a check of one's own."""
    if case.expected is None:
        yield "it has no `expected`, and no --check says how to judge it without"


def _case(content: str, line: int) -> Case | list[str]:
    try:
        given = json.loads(content)
    except json.JSONDecodeError as error:
        return [f"it is no JSON: {error.msg} at column {error.colno}"]
    if not isinstance(given, dict):
        return ["it is no object with `input`, `expected` and `id`"]
    wrong = [f"it may not have a field {field!r}" for field in given if field not in _FIELDS]
    if "input" not in given:
        wrong.append("it has no `input`")
    called = given.get("id", str(line))
    if isinstance(called, int) and not isinstance(called, bool):
        called = str(called)
    if not isinstance(called, str) or not called or len(called) > _LONGEST_ID or "\0" in called:
        wrong.append(f"its id must be a text of 1 to {_LONGEST_ID} characters, or a whole number")
    if wrong:
        return wrong
    return Case(id=called, input=given["input"], expected=given.get("expected"), line=line)


def _misfits(case: Case, validator: jsonschema_rs.Draft202012Validator) -> Iterator[str]:
    try:
        json_text("input", "", validator, case.input)
    except InputError as error:
        yield from (f"input: {fault}" for fault in error.faults)


def _twice(cases: Sequence[Case]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for case in cases:
        if first.setdefault(case.id, case.line) != case.line:
            yield Fault(f"line {case.line}", f"the id {case.id!r} stands in line {first[case.id]}, too")


def _line_of(fault: Fault) -> tuple[int, Any]:
    digits = fault.path.removeprefix("line ")
    return (int(digits) if digits.isdecimal() else 0, fault.message)
