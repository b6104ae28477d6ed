"""Texts from outside, as the journal can keep them."""

from __future__ import annotations


def storable(text: str) -> str:
    """Without NUL characters and lone surrogates, which Postgres cannot store."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
