"""A campaign of model agents: they buy, things break, and the books must be right in the end."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from schemas import Budget
from schemas.runs import RUN_ENDED
from tests.agents.buying import book, buyer, buying
from tests.chaos.arena import Arena, Pool
from tests.chaos.campaign import Campaign, Size, robbed
from tests.chaos.checker import Strike, Verdict
from tests.chaos.paid.facts import Facts, gather
from tests.chaos.paid.rules import check
from tests.chaos.paid.shop import Shop, usd
from tests.chaos.shapes import Shape
from tests.support import eventually

APP = "tests.agents.buying"
TENANTS = ("rich", "able", "poor")
RICH = 1_000.0
PAID = sum(usd(turn) for turn in range(3))
"""Dollars of a run."""

AGENTS = (buyer, book)
POOLS = (
    Pool("threads", AGENTS, concurrency=8, size=2),
    Pool("prefork", AGENTS, kind="prefork", concurrency=1),
)


@dataclass
class Report:
    """What happened and what is left."""

    seed: int
    seconds: float
    facts: Facts
    verdict: Verdict
    robbed: int

    @property
    def again(self) -> dict[str, int]:
        """How often what was not finished was done once more, by what it is."""
        deeds = Counter(one.what for one in (*self.facts.answered, *self.facts.visited))
        kept = Counter({"model": len(self.facts.answers)})
        kept.update(entry.name.split()[-1] for entry in self.facts.done.values())
        return {what: deeds[what] - kept[what] for what in deeds}

    @property
    def lost(self) -> int:
        """Attempts that were taken back."""
        return sum(
            one.state in ("lost", "released") for tries in self.facts.attempts.values() for one in tries
        )

    def __str__(self) -> str:
        facts = self.facts
        states = Counter(one.state for tries in facts.attempts.values() for one in tries)
        return "\n".join(
            [
                f"seed {self.seed}: {len(facts.runs):,} runs of model agents in {self.seconds:.0f} s;"
                f" {len(facts.answered):,} answers, {len(facts.visited):,} effects; attempts: {dict(states)};"
                f" done again, unfinished: {self.again}; steps taken from healthy workers: {self.robbed}",
                counted(facts.strikes),
                str(self.verdict),
            ]
        )


def counted(strikes: Sequence[Strike]) -> str:
    """What was done how often."""
    return ", ".join(f"{count} × {kind}" for kind, count in Counter(one.kind for one in strikes).items())


class Spree(Campaign):
    """Orders of several tenants, one of which cannot pay for all of its own."""

    def __init__(self, arena: Arena, seed: int, size: Size, shop: Shop) -> None:
        numbers = self._numbers = itertools.count(1)
        shapes = [
            Shape(buying, lambda n: n, lambda rng: {"number": next(numbers)}, options={"tenant": tenant})
            for tenant in TENANTS
        ]
        super().__init__(arena, seed, size, shapes, POOLS)
        self._shop = shop
        budgets = arena.reader.budgets
        for tenant in TENANTS:
            most = PAID * size.runs / 6 if tenant == "poor" else RICH
            budgets.put("tenant", tenant, Budget(usd=most), per="month")

    def spend(self, script: Sequence[str]) -> Report:
        """Submit the runs, break things as the script says, and account for everything."""
        began = time.monotonic()
        saboteur = self.begin()
        self.submit(self.size.runs // 3)
        self.disturb(script)
        self.submit(self.size.runs - len(self._accepted))
        self.finish()
        asked = list(self._shop.requests)
        facts = gather(self.arena.query, asked, self.arena.ledger.visits(), saboteur.strikes)
        facts.expected = len(self._accepted)
        seconds = time.monotonic() - began
        self._pass_everywhere()
        return Report(self.seed, seconds, facts, check(facts), robbed(facts, saboteur.died))

    def _pass_everywhere(self) -> None:
        """Fresh runs find every place free; what they find of the dead they put away."""
        client, numbers = self.arena.client, self._numbers
        runs = [client.submit(buying, {"number": next(numbers)}, tenant=tenant) for tenant in TENANTS]
        eventually(lambda: all(run.view().state in RUN_ENDED for run in runs), timeout=60, every=0.1)
        left = "SELECT (SELECT count(*) FROM permits WHERE key NOT LIKE '%poor%'), (SELECT count(*) FROM reservations)"
        eventually(lambda: self.arena.query(left) == [(0, 0)])
