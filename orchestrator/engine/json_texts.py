"""JSON texts that the engine reads or makes itself. Postgres has numbers of any length, and values of any depth."""

from __future__ import annotations

import json
from typing import Any

from schemas.errors import Permanent


class Unreadable(Permanent):
    """A value that Postgres holds is more than this program can read, or the other way round."""


def read(text: str) -> Any:
    """The value of a JSON text. Raises `Unreadable`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"a value cannot be read: {error}") from None


def write(value: Any) -> str:
    """The JSON text of a value, the same for the same value. Raises `Unreadable` for what is no JSON."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unreadable(f"a value cannot be written: {error}") from None
