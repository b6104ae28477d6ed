"""Files of cases: what is wrong with them is named at once, and by line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.evaluation.cases import expects_something, read_cases
from schemas.errors import InputError

TEXT = {"type": "string"}


def faults(text: str, **more: Any) -> list[str]:
    with pytest.raises(InputError) as refused:
        read_cases(text, "cases.jsonl", more.get("schema", TEXT), *more.get("looks", ()))
    return [str(fault) for fault in refused.value.faults]


def test_a_case_without_an_id_is_called_like_its_line() -> None:
    text = '\n{"input": "a"}\n\n{"input": "b", "expected": [1], "id": 7}\n{"input": "c", "id": "x"}\r\n'
    found = read_cases(text, "cases.jsonl", TEXT)
    assert [(one.id, one.line, one.input, one.expected) for one in found] == [
        ("2", 2, "a", None),
        ("7", 4, "b", [1]),
        ("x", 5, "c", None),
    ]


def test_every_wrong_line_is_named_at_once() -> None:
    lines = [
        '{"input": "fine"}',
        '{"input": ',
        "[1]",
        '{"expected": 1}',
        '{"input": "a", "inptu": "b", "id": true}',
        '{"input": 3, "id": "twice"}',
        '{"input": "a", "id": "twice"}',
        json.dumps({"input": "a", "id": "x" * 201}),
        json.dumps({"input": "nul \0"}),
    ]
    assert faults("\n".join(lines)) == [
        "line 2: it is no JSON: Expecting value at column 11",
        "line 3: it is no object with `input`, `expected` and `id`",
        "line 4: it has no `input`",
        "line 5: it may not have a field 'inptu'",
        "line 5: its id must be a text of 1 to 200 characters, or a whole number",
        'line 6: input: 3 is not of type "string"',
        "line 7: the id 'twice' stands in line 6, too",
        "line 8: its id must be a text of 1 to 200 characters, or a whole number",
        "line 9: input: the input contains a NUL character, which Postgres cannot store",
    ]


def test_a_line_ends_where_json_lets_it_end() -> None:
    """Text may hold characters at which Python would split lines."""
    (case,) = read_cases('{"input": "a\u2028b\x85c"}', "cases.jsonl", TEXT)
    assert case.input == "a\u2028b\x85c"


def test_a_file_without_a_case_is_refused() -> None:
    assert faults("\n \n") == ["it holds no case"]


def test_without_a_check_something_must_be_expected() -> None:
    wrong = faults('{"input": "a"}\n{"input": "a", "expected": 0, "id": "b"}', looks=(expects_something,))
    assert wrong == ["line 1: it has no `expected`, and no --check says how to judge it without"]
