"""Every checker can fail: an engine with one promise taken out is found out, by each kind of check."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.engine.broken import BY_FAULTS, BY_INTERLEAVINGS, BY_THE_MODEL, OF_BUDGETS
from tests.chaos.engine.faults import Fault, matters
from tests.chaos.engine.interleavings import PAIRS, play
from tests.chaos.engine.machine import SHAPES, Moves
from tests.chaos.engine.stage import Stage
from tests.chaos.engine.test_faults import at_once, undisturbed, withstand
from tests.chaos.engine.test_machine import QUICK

FOUND_OUT = (AssertionError, psycopg.Error)
HUNT = settings(QUICK, max_examples=2_000, phases=[Phase.generate], report_multiple_bugs=False)

__all__ = ["at_once"]


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("office")
@pytest.mark.parametrize("promise", BY_THE_MODEL)
def test_the_model_finds_out(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BY_THE_MODEL[promise](monkeypatch)

    with pytest.raises(FOUND_OUT):
        run_state_machine_as_test(Moves, settings=HUNT)


@pytest.mark.usefixtures("office")
@pytest.mark.parametrize("promise", OF_BUDGETS)
def test_the_model_finds_out_about_budgets(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    OF_BUDGETS[promise](monkeypatch)
    for shape in SHAPES:
        monkeypatch.setitem(SHAPES, shape, SHAPES["dear"])

    with pytest.raises(FOUND_OUT):
        run_state_machine_as_test(Moves, settings=HUNT)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("promise", BY_FAULTS)
def test_faults_find_out(stage: Stage, promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks, name = BY_FAULTS[promise]
    breaks(stage)(monkeypatch)

    with pytest.raises(FOUND_OUT):
        cut_everywhere(stage, name)


def cut_everywhere(stage: Stage, name: str) -> None:
    expected, statements = undisturbed(stage, name)
    withstand(stage, name, [{n: Fault.CUT} for n, one in enumerate(statements) if matters(one)], expected)


@pytest.mark.parametrize("promise", BY_INTERLEAVINGS)
def test_interleavings_find_out(stage: Stage, promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks, name = BY_INTERLEAVINGS[promise]
    breaks(monkeypatch)

    with pytest.raises(FOUND_OUT):
        play(stage, PAIRS[name])
