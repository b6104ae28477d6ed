"""Texts and data from outside, as the journal can keep them."""

from __future__ import annotations

import json
import re
from typing import Any

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL character in JSON text, with the escaped backslashes before it."""


def storable(text: str) -> str:
    """Without NUL characters and lone surrogates, which Postgres cannot store."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def storable_data(value: Any) -> Any:
    """JSON data with storable texts only."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [storable_data(one) for one in value]
    if isinstance(value, dict):
        return {storable(name): storable_data(one) for name, one in value.items()}
    return value


def unstorable(value: Any) -> str | None:
    """Why JSON data cannot be kept, in words that stand behind "it holds"; None if it can."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeError:
        return "half of a character (a lone surrogate)"
    except ValueError:
        return "a number that is none: NaN or Infinity"
    return "a NUL character" if holds_nul(text) else None


def holds_nul(text: str) -> bool:
    """Whether this JSON text holds a NUL character, which Postgres cannot store."""
    return "\\u0000" in text and _NUL.search(text) is not None
