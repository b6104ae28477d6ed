"""Texts and data from outside, as the journal can keep them."""

from __future__ import annotations

from typing import Any


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
