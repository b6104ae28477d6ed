"""What was typed, and what it means."""

from __future__ import annotations

import io
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.inputs import labels, parse, read, seconds, seconds_until
from schemas.errors import InputError

STRING = {"type": "string"}
NOTE = {"type": "object", "properties": {"text": {"type": "string"}}}
OTHER = {"type": "object", "properties": {"question": {"type": "string"}}}


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        (None, NOTE, {}),
        ('{"text": "a"}', NOTE, {"text": "a"}),
        ("[1, 2]", OTHER, [1, 2]),
        ("12", {"type": "integer"}, 12),
        ("hello there", STRING, "hello there"),
        ('"quoted"', STRING, "quoted"),
        ("12", STRING, "12"),
        ("{not json", STRING, "{not json"),
        ("hello there", NOTE, {"text": "hello there"}),
    ],
)
def test_json_is_json_and_other_text_is_text(text: str | None, schema: dict[str, Any], value: Any) -> None:
    assert parse(text, schema) == value


@pytest.mark.parametrize(("text", "schema"), [("hello", OTHER), ('{"text": ', NOTE), ("[1", {})])
def test_what_can_be_neither_is_refused(text: str, schema: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"it is not JSON .* at line 1 column"):
        parse(text, schema)


def test_a_file_and_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.json").write_text("[1]")
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))

    assert read(f"@{tmp_path}/in.json") == "[1]"
    assert read("-") == "from a pipe"
    assert read("text") == "text"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "in.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read(f"@{path}")


def test_labels() -> None:
    assert labels(["team=legal", "note=a=b"]) == {"team": "legal", "note": "a=b"}
    with pytest.raises(InputError, match="'team' is not NAME=VALUE; '=x' is not NAME=VALUE"):
        labels(["team", "=x", "a=b"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5_400),
        ("2d", 172_800),
        ("1.5 h", 5_400),
        ("1H 1S", 3_601),
    ],
)
def test_a_duration_is_read_in_its_units(text: str, expected: float) -> None:
    assert seconds(text, "--delay") == expected


@pytest.mark.parametrize("text", ["", "s", "5x", "-5", "1e3", "nan", "5m later", "five"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--delay: .* is not like 30s"):
        seconds(text, "--delay")


def test_a_moment_is_local_unless_it_names_its_zone() -> None:
    soon = (datetime.now() + timedelta(hours=1)).isoformat()
    there = (datetime.now(timezone(timedelta(hours=9))) + timedelta(hours=1)).isoformat()

    assert seconds_until(soon) == pytest.approx(3_600, abs=30)
    assert seconds_until(there) == pytest.approx(3_600, abs=30)
