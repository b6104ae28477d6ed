"""Events that nobody can read: refused at the door, and no concern of others where one stands there already."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.definitions.reactions import on
from orchestrator.definitions.vocabulary import workflow
from orchestrator.incoming.inbox import Inbox
from orchestrator.incoming.subscriptions import Subscriptions
from schemas.errors import InputError
from tests.integration.engine.bench import Bench, named

A = named("a")
HUGE = 10**5_000
"""Postgres has such numbers, and Python's json refuses to read them."""


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
def test_a_number_that_cannot_be_read_again_is_refused(bench: Bench, inside: bool) -> None:
    with pytest.raises(InputError, match="no JSON form"):
        Inbox(bench.pool).emit("x", {"a": [HUGE]} if inside else HUGE)


@pytest.mark.parametrize(
    "held", [{}, {"debounce": 0.01}, {"throttle": 0.01}], ids=["at once", "debounce", "throttle"]
)
def test_an_event_that_cannot_be_read_is_set_aside_alone(bench: Bench, held: Any) -> None:
    flow = workflow("flow", A)
    Subscriptions(bench.pool, bench.engine.plans).deploy([on("x", start=flow, **held), on("y", start=flow)])
    Inbox(bench.pool).emit("x", 1)
    bench.query("UPDATE incoming_events SET payload = (10::numeric ^ 5000)::text::jsonb")
    Inbox(bench.pool).emit("y", 1)

    bench.drain()

    assert bench.query("SELECT state FROM deliveries ORDER BY event") == [("failed",), ("started",)]
