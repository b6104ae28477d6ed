"""One conservation run: submit, break, go on, and account for everything afterwards."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar
from uuid import UUID

import psycopg

from tests.chaos.arena import POOLS, Arena, Pool
from tests.chaos.checker import (
    DOUBLE,
    LOST,
    WRONG,
    Accepted,
    Attempt,
    Facts,
    StepKey,
    Strike,
    Verdict,
    check,
    gather,
)
from tests.chaos.saboteur import Saboteur, script
from tests.chaos.shapes import PROBE, SHAPES, Shape
from tests.support import eventually

T = TypeVar("T")

STUCK = 60.0
"""Seconds without a single finished step after which nothing is expected any more."""


@dataclass(frozen=True)
class Size:
    """How much."""

    runs: int
    faults: int
    gap: float
    """Seconds between two faults, at least."""


@dataclass
class Report:
    """What happened and what is left."""

    seed: int
    size: Size
    seconds: float
    probe: float
    """Seconds from the end of the last fault to the output of a fresh run."""
    facts: Facts
    verdict: Verdict
    died: Sequence[str]
    """Workers that ended by themselves."""

    def __str__(self) -> str:
        steps = sum(step.kind == "agent" for step in self.facts.steps.values())
        attempts = sum(len(tries) for tries in self.facts.attempts.values())
        counts = ", ".join(f"{self.verdict.count(what)} {what}" for what in (LOST, DOUBLE, WRONG))
        recoveries = recovery_times(self.facts)
        kinds = Counter(strike.kind for strike in self.facts.strikes)
        rows = [_row(kind, count, recoveries.get(kind, [])) for kind, count in sorted(kinds.items())]
        rows.append(_row("all", kinds.total(), [time for times in recoveries.values() for time in times]))
        return "\n".join(
            [
                f"seed {self.seed}: {len(self.facts.accepted):,} runs, {steps:,} steps, {attempts:,} attempts,"
                f" {len(self.facts.calls):,} calls in {self.seconds:.0f} s: {counts};"
                f" a fresh run had ended {self.probe:.1f} s after the last fault;"
                f" steps taken from healthy workers: {robbed(self.facts, self.died)};"
                f" workers that ended by themselves: {len(self.died)}",
                f"{'fault':<18} {'times':>6} {'steps hit':>10} {'again after p50':>16} {'p99':>8} {'longest':>8}",
                *rows,
                str(self.verdict),
            ]
        )


class Campaign:
    """Runs of all shapes, and faults between them; the same seed gives the same runs and the same script."""

    def __init__(
        self,
        arena: Arena,
        seed: int,
        size: Size,
        shapes: Sequence[Shape] = tuple(SHAPES),
        pools: Sequence[Pool] = POOLS,
    ) -> None:
        self.arena = arena
        self._pools = pools
        self.seed = seed
        self.size = size
        self._shapes = shapes
        self._random = random.Random(seed + 1)
        self._accepted: list[Accepted] = []
        self._seen = 0
        self._saboteur: Saboteur | None = None

    def run(self) -> Report:
        """All of it."""
        began = time.monotonic()
        saboteur = self.begin()
        self.disturb(script(self.size.faults, saboteur.random))
        probe = self._probe(saboteur.strikes)
        self.submit(self.size.runs - len(self._accepted))
        self.finish()
        facts = gather(self.arena, self._accepted, saboteur.strikes)
        return Report(
            self.seed, self.size, time.monotonic() - began, probe, facts, check(facts), saboteur.died
        )

    def begin(self) -> Saboteur:
        """Start the workers."""
        self._saboteur = Saboteur(self.arena, self.seed, self._pools)
        return self._saboteur

    def disturb(self, faults: Sequence[str]) -> None:
        """Submit runs and break things between them, until all is mended again."""
        assert self._saboteur is not None
        last, share = time.monotonic(), self.size.runs / (len(faults) + 1)
        for number, fault in enumerate(faults, 1):
            self.submit(round(number * share) - len(self._accepted))
            self._progress(last + self.size.gap)
            self._saboteur.strike(fault)
            last = time.monotonic()
        self._saboteur.calm()

    def submit(self, count: int) -> None:
        """Submit this many runs, whatever happens meanwhile; each is accepted once."""
        drawn = self._random.choices(self._shapes, [shape.weight for shape in self._shapes], k=max(count, 0))
        by_shape: defaultdict[int, list[Any]] = defaultdict(list)
        for shape in drawn:
            by_shape[self._shapes.index(shape)].append(shape.draw(self._random))
        for index, inputs in by_shape.items():
            self._submit(self._shapes[index], inputs)

    def _submit(self, shape: Shape, inputs: Sequence[Any]) -> None:
        first = len(self._accepted)
        keys = [f"{self.seed}-{first + n}" for n in range(len(inputs))]
        handles = stubbornly(
            lambda: self.arena.client.submit_many(
                shape.workflow, inputs, idempotency_keys=keys, **shape.options
            )
        )
        self._accepted += [
            Accepted(handle.id, shape, given) for handle, given in zip(handles, inputs, strict=True)
        ]

    def _progress(self, earliest: float) -> None:
        """Wait until a step has ended that had not the last time, but at least until then."""
        eventually(lambda: time.monotonic() > earliest and self._moved(), timeout=STUCK, every=0.1)

    def _moved(self) -> bool:
        if self._saboteur is not None:
            self._saboteur.tend()
        newest = self.arena.one("SELECT coalesce(max(id), 0) FROM events")
        found = self.arena.query(
            "SELECT FROM events WHERE id > %s AND kind IN ('step.done', 'step.failed') LIMIT 1", self._seen
        )
        if found:
            self._seen = newest
        return bool(found)

    def finish(self) -> None:
        """Wait until every run has ended, or nothing moves any more: the checker says what is left."""
        moved = time.monotonic()

        def ended() -> bool:
            nonlocal moved
            if self._moved():
                moved = time.monotonic()
            left = self.arena.one("SELECT EXISTS (SELECT FROM runs WHERE finished_at IS NULL)")
            return not left or time.monotonic() - moved > STUCK

        eventually(ended, timeout=math.inf, every=0.2)

    def _probe(self, strikes: Sequence[Strike]) -> float:
        over = max((strike.until for strike in strikes), default=time.time())
        self._accepted.append(probe(self.arena, STUCK))
        return time.time() - over


def probe(arena: Arena, timeout: float) -> Accepted:
    """A fresh small run that has ended. Raises `ResultTimeout` when it has not in time."""
    handle = stubbornly(lambda: arena.client.submit(PROBE.workflow, 1, **PROBE.options))
    output = arena.reader.result(handle.id, timeout)
    assert output == PROBE.expected(1)
    return Accepted(handle.id, PROBE, 1)


def stubbornly(work: Callable[[], T]) -> T:
    """Try until Postgres answers, as a producer with an idempotency key may."""

    def tried() -> T:
        try:
            return work()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise AssertionError from error

    return eventually(tried, timeout=STUCK, every=0.1)


def recovery_times(facts: Facts) -> dict[str, list[float]]:
    """Seconds from a fault to the next attempt, by kind: of steps that a worker lost, or that lay in the broker."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for strike in facts.strikes:
        found[strike.kind] += _of_workers(facts, strike) if strike.workers else _of_servers(facts, strike)
    return found


class Told(Protocol):
    """What facts of any kind tell."""

    attempts: dict[StepKey, list[Attempt]]
    workers: dict[str, UUID]
    strikes: Sequence[Strike]


def robbed(facts: Told, died: Sequence[str]) -> int:
    """Attempts that a worker lost although nobody had touched it: it was slow, and taken for dead."""
    touched = {facts.workers[name]: 0.0 for name in died if name in facts.workers}
    for strike in reversed(facts.strikes):
        touched.update({facts.workers[name]: strike.at for name in strike.workers if name in facts.workers})
    return sum(
        one.state == "lost" and one.finished < touched.get(one.worker, math.inf)
        for tries in facts.attempts.values()
        for one in tries
    )


def _of_workers(facts: Facts, strike: Strike) -> Iterable[float]:
    hit = {facts.workers[name] for name in strike.workers if name in facts.workers}
    for tries in facts.attempts.values():
        for lost, following in pairwise(tries):
            gone = lost.state in ("lost", "released") and lost.worker in hit
            if gone and lost.started < strike.at < following.started:
                yield following.started - strike.at


def _of_servers(facts: Facts, strike: Strike) -> Iterable[float]:
    for step in strike.waiting:
        later = [one.started for one in facts.attempts[step] if one.started > strike.at]
        if later:
            yield min(later) - strike.at


def _row(kind: str, count: int, times: Sequence[float]) -> str:
    if not times:
        return f"{kind:<18} {count:>6} {0:>10} {'-':>16} {'-':>8} {'-':>8}"
    p99 = statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0]
    return (
        f"{kind:<18} {count:>6} {len(times):>10} {statistics.median(times):>14.2f} s"
        f" {min(p99, max(times)):>6.2f} s {max(times):>6.2f} s"
    )
