"""From what was typed to the input of a run."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.errors import Fault, InputError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def read(given: str | None) -> str | None:
    """The text that `given` stands for: itself, the file of `@file`, or stdin for `-`.

    Raises `InputError` for a file that cannot be read.
    """
    if given == "-":
        return sys.stdin.read()
    if given is not None and given.startswith("@"):
        try:
            return Path(given[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(f"The input file {given[1:]!r} cannot be read", [Fault("", reason)]) from error
    return given


def parse(text: str | None, schema: dict[str, Any]) -> Any:
    """The value that `text` means for an input of this schema; without a text, `{}`.

    JSON is taken as JSON. Other text is the input itself where a string is wanted, and its field `text` where
    an object has one. Raises `InputError` when it can be neither.
    """
    if text is None:
        return {}
    wants_text = schema.get("type") == "string"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return _plain(text, schema, wants_text, error)
    return text if wants_text and not isinstance(value, str) else value


def data(text: str) -> Any:
    """JSON as what it means, any other text as itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def labels(given: list[str]) -> dict[str, str]:
    """From `["team=legal"]` to `{"team": "legal"}`. Raises `InputError` for one without a name or `=`."""
    pairs = [one.partition("=") for one in given]
    faults = [Fault("", f"{''.join(p)!r} is not NAME=VALUE") for p in pairs if not p[0] or not p[1]]
    if faults:
        raise InputError("--label", faults)
    return {name: value for name, _, value in pairs}


def seconds(text: str, option: str) -> float:
    """From `90`, `30s`, `5m`, `1h30m` or `2d` to seconds. Raises `InputError`, naming the option, for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip().lower())
    if not parts or re.fullmatch(r"(?:\d+(?:\.\d+)?\s*[smhd]?\s*)+", text.strip().lower()) is None:
        raise InputError(option, [Fault("", f"{text!r} is not like 30s, 5m, 1h30m or 2d")])
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def seconds_until(text: str) -> float:
    """How far away a moment like `2027-01-31T09:00` is, in the time zone of this machine unless it names one.

    Raises `InputError` for what is no moment, or has passed.
    """
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise InputError(
            "--at", [Fault("", f"{text!r} is not like 2027-01-31T09:00 or ...T09:00+01:00")]
        ) from None
    left = (moment - datetime.now(UTC)).total_seconds()
    if left < 0:
        raise InputError("--at", [Fault("", f"{moment.isoformat()} has passed")])
    return left


def _plain(text: str, schema: dict[str, Any], wants_text: bool, error: json.JSONDecodeError) -> Any:
    if wants_text:
        return text
    field = schema.get("properties", {}).get("text")
    if field is not None and not text.lstrip().startswith(("{", "[")):
        return {"text": text}
    raise InputError(
        "The input is not what this workflow takes",
        [Fault("", f"it is not JSON ({error.msg} at line {error.lineno} column {error.colno})")],
    ) from None
