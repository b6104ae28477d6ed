"""What is measured, and what has to come out of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.meter import Reading
from benchmarks.sides import Side


@dataclass(frozen=True)
class Load:
    """What goes on while workers are replaced, in `benchmarks.deploy`."""

    workers: int = 3
    rate: float = 20.0
    """Pipelines of five steps that are submitted per second."""
    quiet: float = 20.0
    """Seconds of the same load before the roll."""
    drain: float = 2.0
    """Seconds that a leaving worker may finish what it runs."""
    long: float = 6.0
    """Seconds that a long step takes: longer than the drain, so that it is handed back."""


WORKER, POOL = "SIGKILL of one of two workers", "SIGKILL of the only worker, and a new one"
WIPE, RESTART = "Redis forgets (FLUSHALL)", "Postgres restarts"


@dataclass(frozen=True)
class Outages:
    """What is broken, how often, and how long anyone waits."""

    kinds: tuple[str, ...] = (WORKER, POOL, WIPE, RESTART)
    rounds: int = 13
    plain_rounds: int = 3
    visibility: float = 10.0
    """Seconds of plain Celery's visibility timeout: no task here runs as long, as its user would have to make sure."""
    patience: float = 40.0
    """Seconds after which a task that was running counts as lost."""
    queued: float = 10.0
    """Seconds after which one that lay in the queue does."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything one round does."""

    rounds: int = 5
    pipelines: int = 200
    fan_outs: int = 90
    singles: int = 30
    """Runs of a round that go one after the other."""
    wide: int = 1_000
    waits: int = 500
    wait: float = 1.0
    """Seconds."""
    growth: tuple[int, ...] = (10, 100, 1_000, 10_000)
    """Steps of one run."""
    history: int = 1_000_000
    """Finished steps that lie in the tables before the last measurement."""
    memories: int = 100_000
    """Of one key."""
    timers: int = 2_000
    over: float = 10.0
    """Seconds within which the timers are due."""
    concurrency: int = 16
    load: Load = Load()
    outages: Outages = Outages()


FULL = Sizes()
QUICK = Sizes(
    rounds=3,
    pipelines=60,
    fan_outs=30,
    singles=15,
    growth=(10, 100, 1_000),
    history=100_000,
    memories=10_000,
    timers=800,
    over=4.0,
    outages=Outages(rounds=2, plain_rounds=1),
)
TINY = Sizes(
    rounds=1,
    pipelines=2,
    fan_outs=2,
    singles=1,
    wide=5,
    waits=5,
    wait=0.05,
    growth=(1, 5),
    history=50,
    memories=50,
    timers=8,
    over=0.2,
    load=Load(workers=1, rate=5.0, quiet=0.5, drain=0.3, long=2.0),
    outages=Outages(kinds=(WIPE,), rounds=1, plain_rounds=1, visibility=2.0, queued=3.0),
)


@dataclass(frozen=True)
class Target:
    """What the median of Baton, or of its ratio to plain Celery, should reach."""

    limit: float
    at_least: bool
    of_ratio: bool = True

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Figure:
    """One line of the table: a quantity that a scenario yields."""

    title: str
    unit: str
    target: Target


@dataclass(frozen=True)
class Sample:
    """One round of one side: a value per figure, and what it cost."""

    values: tuple[float, ...]
    steps: int
    cost: Reading


@dataclass(frozen=True)
class Scenario:
    """Work for both sides; `work` returns the values of the figures and the number of steps."""

    name: str
    figures: tuple[Figure, ...]
    work: Callable[[Side, Sizes], tuple[tuple[float, ...], int]]
    waits: bool = False
    """Whether it needs the waiting server and one thread per branch."""

    def measure(self, side: Side, sizes: Sizes) -> Sample:
        before = side.meter.read()
        values, steps = self.work(side, sizes)
        return Sample(values, steps, side.meter.read() - before)


def _timed(work: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    work(count)
    return time.perf_counter() - start


def _throughput(work: Callable[[int], None], runs: int, steps: int) -> tuple[tuple[float, ...], int]:
    return (runs * steps / _timed(work, runs),), runs * steps


def _latency(work: Callable[[int], None], runs: int, steps: int) -> tuple[tuple[float, ...], int]:
    return (statistics.median(_timed(work, 1) for _ in range(runs)) * 1000,), runs * steps


def _wide(side: Side, sizes: Sizes) -> tuple[tuple[float, ...], int]:
    return (_timed(side.wide, sizes.wide),), sizes.wide + 1


def _waits(side: Side, sizes: Sizes) -> tuple[tuple[float, ...], int]:
    return (_timed(side.waits, sizes.waits), side.meter.peak_memory()), sizes.waits + 1


_AS_MUCH = Target(1.0, at_least=True)
_AS_PROMPT = Target(1.2, at_least=False)

SCENARIOS = (
    Scenario(
        "pipeline",
        (Figure("pipeline of 5, many at a time", "steps/s", _AS_MUCH),),
        lambda side, sizes: _throughput(side.pipelines, sizes.pipelines, 5),
    ),
    Scenario(
        "pipeline-latency",
        (Figure("pipeline of 5, one at a time, p50", "ms", _AS_PROMPT),),
        lambda side, sizes: _latency(side.pipelines, sizes.singles, 5),
    ),
    Scenario(
        "fan-out",
        (Figure("fan-out of 10 and join, many at a time", "steps/s", _AS_MUCH),),
        lambda side, sizes: _throughput(side.fan_outs, sizes.fan_outs, 11),
    ),
    Scenario(
        "fan-out-latency",
        (Figure("fan-out of 10 and join, one at a time, p50", "ms", _AS_PROMPT),),
        lambda side, sizes: _latency(side.fan_outs, sizes.singles, 11),
    ),
    Scenario("wide", (Figure("fan-out of {wide:,} and join", "s", Target(1 / 1.2, at_least=False)),), _wide),
    Scenario(
        "waits",
        (
            Figure("{waits} branches that wait {wait:g} s", "s", Target(1.4, False, of_ratio=False)),
            Figure("... and the worker's peak memory", "MB", Target(200.0, False, of_ratio=False)),
        ),
        _waits,
        waits=True,
    ),
)
