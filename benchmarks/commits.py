"""How often a step waits for the disk."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.meter import LAG, Reading
from benchmarks.scenarios import Sizes
from benchmarks.sides import Baton


@dataclass(frozen=True)
class Commits:
    """Per step of pipelines, after what an idle worker does in the same time was taken off."""

    title: str
    writes: float
    """Transactions that wrote, claims among them."""
    flushes: float
    """Waits for the disk. A claim does not wait, and steps that end together wait together."""


def count_commits(side: Baton, sizes: Sizes, lag: float = LAG) -> tuple[Reading, list[Commits]]:
    """What an idle worker does per second, and the commits of steps one at a time and many at a time."""
    before = _settled(side, lag)
    time.sleep(lag)
    idle = _settled(side, lag) - before
    idle *= 1 / idle.seconds
    counted = []
    for title, runs, together in (
        ("one run at a time", sizes.singles, 1),
        ("many at a time", sizes.pipelines, sizes.pipelines),
    ):
        before = _settled(side, lag)
        for _ in range(runs // together):
            side.pipelines(together)
        spent = _settled(side, lag) - before
        spent = (spent - idle * spent.seconds) * (1 / (5 * runs))
        counted.append(Commits(title, spent.writes, spent.flushes))
    return idle, counted


def _settled(side: Baton, lag: float) -> Reading:
    """A reading after all sessions told their counts; the client's does so with its next statement."""
    time.sleep(lag)
    side.client.runs(limit=1)
    return side.meter.read()
