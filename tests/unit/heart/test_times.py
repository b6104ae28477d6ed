"""Times of definitions: none is longer than Postgres can count."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.definitions.reactions import on
from orchestrator.definitions.teams import debate, supervise
from orchestrator.definitions.vocabulary import approve, each, fan_out, wait_for, workflow
from schemas.errors import DefinitionError
from tests.integration.engine.bench import named

A, B = named("a"), named("b")


@pytest.mark.parametrize("seconds", [1e13, math.inf, math.nan])
@pytest.mark.parametrize(
    "make",
    [
        lambda s: approve("p", expires=s),
        lambda s: approve("p", expires=1, escalate_to=["x"], escalate_after=s),
        lambda s: wait_for("x", within=s),
        lambda s: wait_for("x", lookback=s),
        lambda s: fan_out(A, B, within=s),
        lambda s: each(A, within=s),
        lambda s: supervise(A, planner=B, reviewer=B, within=s),
        lambda s: debate(A, B, within=s),
        lambda s: workflow("w", A, timeout=s),
        lambda s: on("x", start=workflow("w", A), throttle=s),
        lambda s: on("x", start=workflow("w", A), debounce=s),
    ],
)
def test_no_time_is_longer_than_postgres_can_count(make: Any, seconds: float) -> None:
    with pytest.raises((DefinitionError, ValidationError)):
        make(seconds)
