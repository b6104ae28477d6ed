"""Any sequence of moves leaves the real engine where the model says."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.engine.machine import Moves

QUICK = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
LONG = settings(QUICK, max_examples=2_000, stateful_step_count=60, derandomize=False)


@pytest.mark.usefixtures("office")
def test_the_engine_does_what_the_model_does() -> None:
    run_state_machine_as_test(Moves, settings=QUICK)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("office")
def test_the_engine_does_what_the_model_does_in_the_long_run() -> None:
    run_state_machine_as_test(Moves, settings=LONG)
