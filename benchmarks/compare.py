"""Runs a scenario on both sides in turn, and draws medians and ratios from the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.meter import Reading
from benchmarks.scenarios import Figure, Sample, Scenario, Sizes
from benchmarks.sides import Baton, PlainCelery, Side
from benchmarks.waiting import waiting_server


@dataclass(frozen=True)
class Servers:
    """Where both sides find their servers."""

    database_url: str
    broker_url: str
    plain_url: str
    """The Redis of plain Celery."""


@dataclass(frozen=True)
class Line:
    """A figure with its medians and the median of the rounds' ratios."""

    figure: Figure
    plain: float
    baton: float
    ratio: float

    @property
    def met(self) -> bool:
        return self.figure.target.met(self.ratio if self.figure.target.of_ratio else self.baton)


@dataclass(frozen=True)
class Comparison:
    """All rounds of one scenario."""

    scenario: Scenario
    plain: Sequence[Sample]
    baton: Sequence[Sample]

    @property
    def lines(self) -> list[Line]:
        made = []
        for index, figure in enumerate(self.scenario.figures):
            plain = [sample.values[index] for sample in self.plain]
            baton = [sample.values[index] for sample in self.baton]
            ratio = statistics.median(b / p for b, p in zip(baton, plain, strict=True))
            made.append(Line(figure, statistics.median(plain), statistics.median(baton), ratio))
        return made

    def cost(self, samples: Sequence[Sample]) -> Reading:
        """Of one step, over all rounds."""
        total = sum((sample.cost for sample in samples), Reading())
        return total * (1 / sum(sample.steps for sample in samples))


def compare(scenario: Scenario, sides: tuple[Side, Side], sizes: Sizes) -> Comparison:
    """Measure plain Celery and Baton in turn, in each round the other first."""
    plain: list[Sample] = []
    baton: list[Sample] = []
    for number in range(sizes.rounds):
        turn = [(sides[0], plain), (sides[1], baton)]
        for side, samples in turn if number % 2 == 0 else reversed(turn):
            samples.append(scenario.measure(side, sizes))
    return Comparison(scenario, plain, baton)


@contextmanager
def both_sides(servers: Servers, sizes: Sizes, folder: Path) -> Iterator[tuple[PlainCelery, Baton]]:
    """Both with the same concurrency, warmed up."""
    with (
        PlainCelery(servers.plain_url, concurrency=sizes.concurrency, folder=folder) as plain,
        Baton(
            servers.database_url, servers.broker_url, concurrency=sizes.concurrency, folder=folder
        ) as baton,
    ):
        for side in (plain, baton):
            side.pipelines(min(20, sizes.pipelines))
            side.fan_outs(min(10, sizes.fan_outs))
        yield plain, baton


@contextmanager
def both_waiting(servers: Servers, sizes: Sizes, folder: Path) -> Iterator[tuple[PlainCelery, Baton]]:
    """Both with room for every branch at once, and a server that makes them wait."""
    with (
        waiting_server(sizes.wait) as url,
        PlainCelery(servers.plain_url, concurrency=sizes.waits, folder=folder, server=url) as plain,
        Baton(
            servers.database_url, servers.broker_url, concurrency=sizes.waits, folder=folder, server=url
        ) as baton,
    ):
        for side in (plain, baton):
            side.waits(min(20, sizes.waits))
        yield plain, baton
