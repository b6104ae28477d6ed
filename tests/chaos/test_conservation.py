"""Nothing is lost, nothing is done twice, whatever a seeded script does to workers and to Redis meanwhile."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.client import RunHandle
from orchestrator.store.schema import upgrade
from tests.agents import arithmetic
from tests.integration.results.conftest import on_database
from tests.integration.worker.stack import Stack
from tests.support import Databases, Process, Processes, eventually

AGENTS = ("increment", "double", "count_to", "add_up")
FAULTS = ("kill", "kill", "freeze", "wipe")


@pytest.fixture
def stack(redis_url: str, databases: Databases, tmp_path: Path) -> Iterator[Stack]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Stack(Processes(tmp_path), url, on_database(redis_url, 8))
    made.redis().flushdb()
    yield made
    made.close()
    databases.drop(url)


class Saboteur:
    """Disturbs two workers, one fault at a time; the same seed disturbs in the same order."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack = stack
        self.random = random.Random(seed)
        self.workers = [stack.worker(*AGENTS), stack.worker(*AGENTS)]
        self.frozen: list[Process] = []

    def strike(self, fault: str) -> None:
        if fault == "wipe":
            self.stack.redis().flushdb()
        elif fault == "freeze":
            victim = self.random.choice(self.workers)
            victim.signal(signal.SIGSTOP)
            self.workers.remove(victim)
            self.frozen.append(victim)
            self.workers.append(self.stack.begin(*AGENTS))
        else:
            victim = self.random.choice(self.workers)
            victim.kill()
            self.workers.remove(victim)
            self.workers.append(self.stack.begin(*AGENTS))

    def thaw(self) -> None:
        """Those that were frozen come back and report outcomes that are long decided."""
        for worker in self.frozen:
            worker.signal(signal.SIGCONT)


def disturbed(stack: Stack, seed: int, runs: int, faults: int) -> None:
    saboteur = Saboteur(stack, seed)
    script = [*FAULTS[:faults], *saboteur.random.choices(FAULTS, k=max(0, faults - len(FAULTS)))]
    share = runs // (2 * (faults + 1))
    started: list[tuple[RunHandle, object]] = []
    for fault in [*script, None]:
        # Given runs of two shapes, some of which are under way
        lines = stack.client.submit_many(arithmetic.line, range(share))
        mapped = stack.client.submit_many(arithmetic.mapped, [5] * share)
        started += [(run, 4 * n + 7) for n, run in enumerate(lines)] + [(run, 20) for run in mapped]
        if fault is not None:
            # When something happens
            already = done(stack)
            eventually(lambda before=already: done(stack) > before, timeout=60)
            saboteur.strike(fault)
    saboteur.thaw()
    struck = time.monotonic()

    # Then every run ends with the right output
    for run, expected in started:
        assert run.result(120) == expected, run.view()
    print(
        f"seed {seed}: {len(started)} runs, {faults} faults, {time.monotonic() - struck:.1f} s after the last"
    )
    # and each step has exactly one accepted outcome, and nothing was executed after it
    twice = "SELECT run_id, path FROM attempts WHERE state = 'done' GROUP BY 1, 2 HAVING count(*) <> 1"
    later = """SELECT a.run_id, a.path FROM attempts a JOIN attempts d USING (run_id, path)
               WHERE d.state = 'done' AND a.attempt > d.attempt"""
    open_ones = "SELECT run_id, path, state FROM steps WHERE state <> 'done'"
    unrecorded = """SELECT s.run_id, s.path FROM steps s LEFT JOIN attempts a
                    ON a.run_id = s.run_id AND a.path = s.path AND a.attempt = s.attempt AND a.state = 'done'
                    WHERE s.kind = 'agent' AND a.run_id IS NULL"""
    for impossible in (twice, later, open_ones, unrecorded):
        assert stack.query(impossible) == []


def done(stack: Stack) -> int:
    return int(stack.query("SELECT count(*) FROM steps WHERE state = 'done'")[0][0])


def test_nothing_is_lost_and_nothing_happens_twice(stack: Stack) -> None:
    disturbed(stack, seed=1, runs=200, faults=4)


@pytest.mark.chaos
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_nothing_is_lost_and_nothing_happens_twice_in_the_long_run(stack: Stack, seed: int) -> None:
    disturbed(stack, seed=seed, runs=2_000, faults=25)
