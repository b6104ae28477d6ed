"""A campaign of errands: services fail in every storm, workers and servers break, and people are asked meanwhile."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from orchestrator.breakers.circuits import CIRCUITS, PATIENCE
from orchestrator.outages import AGAIN, FLICKER
from tests.agents.errands import clerk, errands, pack, ring, scout
from tests.chaos.arena import Arena, Pool
from tests.chaos.campaign import Campaign, Size, robbed, stubbornly
from tests.chaos.checker import Strike, Verdict
from tests.chaos.paid.campaign import counted
from tests.chaos.shapes import Shape
from tests.chaos.shared.facts import TAKEN, Facts, gather
from tests.chaos.shared.office import Office
from tests.chaos.shared.rules import check

APP = "tests.agents.errands"
TENANTS = ("near", "far")
CUSTOMERS = 4

AGENTS = (scout, ring, pack, clerk)
POOLS = (
    Pool("threads", AGENTS, concurrency=8, size=2),
    Pool("prefork", AGENTS, kind="prefork", concurrency=1),
)

QUESTIONS = """
SELECT w.id, (r.input ->> 'number')::int FROM waits w JOIN runs r ON r.id = w.run_id
WHERE w.kind = 'question' AND w.settled_at IS NULL
"""

TO_REDIS = ("redis restarts", "drop connections", "cut off")
"""Faults after which workers may not reach Redis for a moment."""
UNSEEN = PATIENCE + AGAIN + FLICKER
"""Seconds after such a fault, or the end of an outage, in which a worker may be blind and not say so."""
_SAID = re.compile(r"^\[([-\d]+ [:\d]+),(\d+): .*?\] (.*)$", re.MULTILINE)


@dataclass
class Report:
    """What happened and what is left."""

    seed: int
    seconds: float
    facts: Facts
    verdict: Verdict
    robbed: int

    @property
    def lost(self) -> int:
        """Attempts that were taken back."""
        return sum(one.state in TAKEN for tries in self.facts.attempts.values() for one in tries)

    def __str__(self) -> str:
        facts = self.facts
        states = Counter(one.state for tries in facts.attempts.values() for one in tries)
        deeds = {what: len(found) for what, found in sorted(facts.deeds.items())}
        hits = sum(one.name == "tool atlas" for one in facts.journal)
        turned_away = Counter(one.circuit for one in facts.turned_away)
        return "\n".join(
            [
                f"seed {self.seed}: {len(facts.runs):,} errands in {self.seconds:.0f} s; done: {deeds},"
                f" for {hits} pages of the atlas; circuits opened"
                f" {dict(Counter(one.circuit for one in facts.openings))}, turned away {dict(turned_away)};"
                f" attempts: {dict(states)}; steps taken from healthy workers: {self.robbed}",
                counted(facts.strikes),
                str(self.verdict),
            ]
        )


class Errands(Campaign):
    """Errands of two tenants, each for one of a few customers."""

    def __init__(self, arena: Arena, seed: int, size: Size, office: Office) -> None:
        numbers = itertools.count(1)

        def draw(rng: object) -> dict[str, object]:
            number = next(numbers)
            return {"number": number, "customer": f"c{number % CUSTOMERS}"}

        shapes = [
            Shape(errands, lambda n: n, lambda rng: draw(rng), options={"tenant": tenant})
            for tenant in TENANTS
        ]
        super().__init__(arena, seed, size, shapes, POOLS)
        self._office = office

    def run_errands(self, script: Sequence[str]) -> Report:
        """Submit the runs, break things as the script says, and account for everything."""
        began = time.monotonic()
        saboteur = self.begin()
        self.submit(self.size.runs // 3)
        self.disturb(script)
        self.submit(self.size.runs - len(self._accepted))
        self.finish()
        asked, visits = list(self._office.requests), self.arena.ledger.visits()
        blind = [*_said_by(self.arena), *_after(saboteur.strikes)]
        facts = gather(self.arena.query, asked, visits, saboteur.strikes, blind)
        facts.expected = len(self._accepted)
        seconds = time.monotonic() - began
        return Report(self.seed, seconds, facts, check(facts), robbed(facts, saboteur.died))

    def _moved(self) -> bool:
        self._decide()
        return super()._moved()

    def _decide(self) -> None:
        """Say what is asked, as people do who look at it now and then."""
        for id, number in self.arena.query(QUESTIONS):
            stubbornly(partial(self.arena.reader.answer, id, number % 2 == 0, by="ann"))


def _after(strikes: Sequence[Strike]) -> Iterator[tuple[str | None, float, float]]:
    """When workers may have been blind: all of them."""
    for strike in strikes:
        if strike.kind in TO_REDIS:
            yield None, strike.at, strike.until + UNSEEN


def _said_by(arena: Arena) -> Iterator[tuple[str | None, float, float]]:
    """When workers were blind, as they have said themselves: a starved Redis answers nobody either."""
    for process in arena.processes.started:
        since: float | None = None
        for day, millis, said in _SAID.findall(process.text()):
            at = datetime.strptime(day, "%Y-%m-%d %H:%M:%S").timestamp() + int(millis) / 1000
            if said.startswith(CIRCUITS._begins):
                since = since or at
            elif said.startswith(CIRCUITS._ends) and since is not None:
                yield process.name, since - PATIENCE, at + UNSEEN
                since = None
        if since is not None:
            yield process.name, since - PATIENCE, time.time()
