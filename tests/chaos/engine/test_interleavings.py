"""Two verbs meet on one run, statement by statement, in every order: it ends as it should, and by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.engine import Engine
from tests.chaos.engine.interleavings import PAIRS, play
from tests.chaos.engine.stage import Stage


@pytest.fixture(scope="module")
def stage(migrated: str) -> Iterator[Stage]:
    made = Stage(migrated)
    # Two threads of one worker: outcomes are heard from whoever holds the attempt.
    made.engines[1] = Engine(made.sound, made.engine.me)
    yield made
    made.close()


@pytest.mark.parametrize("name", PAIRS)
def test_two_verbs_that_meet_anywhere_leave_a_run_that_ends(stage: Stage, name: str) -> None:
    assert play(stage, PAIRS[name]) > 1
