"""What one attempt says that it consumed: what cannot be is its own fault, not that of whoever lists runs later."""

from __future__ import annotations

import math
import time
from uuid import uuid4

import pytest
from pydantic import ValidationError

from schemas.errors import Permanent
from schemas.supervision import Assignment
from workers.asking import HEADLINE, Question
from workers.context import Context


def context() -> Context:
    return Context(uuid4(), "0", 1, "w", "default", {}, None, time.monotonic() + 60)


@pytest.mark.parametrize(
    "spent", [{"tokens": 10**19}, {"usd": math.inf}, {"usd": math.nan}, {"model_calls": -1}, {"usd": 1e300}]
)
def test_an_attempt_cannot_consume_what_no_sum_can_hold(spent: dict[str, float]) -> None:
    ctx = context()
    ctx.spend(tokens=1)
    with pytest.raises(Permanent, match="spend"):
        ctx.spend(**spent)  # type: ignore[arg-type]
    assert ctx.usage.tokens == 1


@pytest.mark.parametrize("expected", [{"tokens": 10**400}, {"usd": 1e308}])
def test_a_planner_cannot_expect_it_either(expected: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Assignment.model_validate({"worker": "a", "input": 1, **expected})


def test_a_long_question_goes_by_its_beginning() -> None:
    asking = Question("x" * 6_000).asking(0, "ask")
    assert len(asking.key) == HEADLINE + 1
    assert asking.request["question"] == "x" * 6_000


@pytest.mark.parametrize("text", ["", "a\0b", "a\ud800b"], ids=["empty", "NUL", "surrogate"])
def test_a_question_that_cannot_be_stored_is_its_agents_fault(text: str) -> None:
    with pytest.raises(Permanent, match="text"):
        Question(text)
