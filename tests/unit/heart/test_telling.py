"""What an agent tells of its work has a JSON form, or is its own fault: it is committed with what others tell."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from schemas.errors import Permanent
from workers.context import Context


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


def context() -> Context:
    return Context(uuid4(), "0", 1, "w", "default", {}, None, time.monotonic() + 60)


@pytest.mark.parametrize(
    "value",
    [{("a", "b"): 1}, math.nan, math.inf, "\0", "\ud800", Unspeakable(), 10**5_000],
    ids=["key", "nan", "inf", "NUL", "surrogate", "unspeakable", "huge"],
)
@pytest.mark.parametrize("verb", ["progress", "decide"])
def test_what_has_no_json_form_cannot_be_told(verb: str, value: Any) -> None:
    ctx = context()
    tell = {"progress": lambda: ctx.progress(value=value), "decide": lambda: ctx.decide(value)}[verb]
    with pytest.raises(Permanent, match=verb):
        tell()
    assert ctx._notes == []


def test_other_values_are_told_as_texts() -> None:
    ctx = context()
    ctx.progress(where=Path("a/b"), share=0.5, name="Ærø")
    assert ctx._notes[0].data == {"where": "a/b", "share": 0.5, "name": "Ærø"}
