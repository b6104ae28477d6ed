"""Every statement of every verb fails, loses its connection, or commits unheard: each run ends as it should."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from orchestrator.engine import patience
from tests.chaos.engine.faults import Fault, matters, writing
from tests.chaos.engine.scenarios import SCENARIOS, SHORT
from tests.chaos.engine.stage import FAILURES, Stage

ROOMS = (
    *("advance", "attempt", "control", "dead_letter", "definition", "fork", "intake", "loss", "recovery"),
    "spending",
    *(
        "call_limit",
        "tool",
        "delivery",
        "journal",
        "limit",
        "notice",
        "timer",
        "view",
        "wait",
        "waking",
        "worker",
    ),
)
"""The rooms of statements that the engine's verbs are made of."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that waits for Postgres does not wait here."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: None)
    monkeypatch.setattr(patience, "time", clock)


class Play:
    """One scenario with its faults, up to where recovery takes over."""

    def __init__(self, stage: Stage, name: str, faults: Mapping[int, Fault] | None = None) -> None:
        self.name = name
        self.faults = faults
        acts = SCENARIOS[name](stage)
        verb = next(acts)
        with stage.faults.watch(faults) as statements:
            try:
                answer = verb()
            except FAILURES as error:
                answer = error
            self.struck = not stage.faults.waiting
        self.statements = list(statements)
        self.runs: list[UUID] = []
        try:
            acts.send(answer)
        except StopIteration as ended:
            self.runs = ended.value

    @property
    def disturbs(self) -> bool:
        """Whether its verb looks at all runs, so that it must be alone in its database."""
        return self.name.startswith(("sweep", "look"))

    def __str__(self) -> str:
        return f"{self.name}: {self.faults}, {dict(enumerate(self.statements))}"


def ends(stage: Stage, play: Play) -> Any:
    """How a play's runs end; then the tables are sound."""
    stage.survive()
    return stage.ends(play.runs)


def withstand(stage: Stage, name: str, plans: list[dict[int, Fault]], expected: Any) -> None:
    """Play a scenario with each of these faults: its runs end as expected."""
    stage.clear()
    plays: list[Play] = []
    for faults in plans:
        plays.append(Play(stage, name, faults))
        assert plays[-1].struck or len(faults) > 1, f"nothing went wrong in {plays[-1]}"
        if plays[-1].disturbs:
            assert ends(stage, plays[-1]) == expected, plays[-1]
            stage.clear()
    stage.survive()
    for play in plays:
        assert play.disturbs or stage.ends(play.runs) == expected, play


def undisturbed(stage: Stage, name: str) -> tuple[Any, list[str]]:
    """How a scenario's runs end without a fault, and the statements of its verb."""
    stage.clear()
    play = Play(stage, name)
    return ends(stage, play), play.statements


LONG = pytest.mark.chaos
NAMES = [pytest.param(name, marks=() if name in SHORT else LONG) for name in SCENARIOS]


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_at_any_write_changes_nothing_in_the_end(stage: Stage, name: str) -> None:
    expected, statements = undisturbed(stage, name)

    writes = [index for index, one in enumerate(statements) if matters(one)]
    faults = (Fault.BROKEN, Fault.CUT, Fault.UNHEARD)
    withstand(stage, name, [{index: fault} for index in writes for fault in faults], expected)


def test_every_write_of_every_verb_is_among_those_that_go_wrong(stage: Stage) -> None:
    met = {statement for name in SHORT for statement in undisturbed(stage, name)[1]}

    missing = sorted(name for room in ROOMS for name in writing(room) if name not in met)
    assert not missing, f"tests/chaos/engine/scenarios.py plays nothing that executes {', '.join(missing)}"


@LONG
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_at_any_read_or_a_deadlock_changes_nothing_in_the_end(stage: Stage, name: str) -> None:
    expected, statements = undisturbed(stage, name)

    places = [(index, fault) for index in range(len(statements)) for fault in Fault]
    left = [(n, fault) for n, fault in places if fault is Fault.REFUSED or not matters(statements[n])]
    withstand(stage, name, [{n: fault} for n, fault in left], expected)


@LONG
@pytest.mark.timeout(900)  # as many plays as pairs of statements
@pytest.mark.parametrize("pair", list(itertools.product((Fault.CUT, Fault.UNHEARD), repeat=2)), ids=str)
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_faults_change_nothing_in_the_end(stage: Stage, name: str, pair: tuple[Fault, Fault]) -> None:
    expected, statements = undisturbed(stage, name)

    # The second one may meet the verb when it is repeated, so it may come a whole verb later.
    places = itertools.combinations(range(2 * len(statements)), 2)
    plans = [dict(zip(both, pair, strict=True)) for both in places if both[0] < len(statements)]
    withstand(stage, name, plans, expected)
