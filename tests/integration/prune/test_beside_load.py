"""Pruning beside full work, readers, and people who resume and cancel: nobody waits for it, and nothing is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.prune import Pruner, Removed, Rule
from orchestrator.watching.feed import Feed
from schemas.errors import Conflict, NotFound
from tests.agents import arithmetic
from tests.integration.engine.bench import Bench, Boom, named
from tests.integration.worker.stack import Stack
from tests.support import eventually

A, B, JOIN = named("a"), named("b"), named("j")
LINE = workflow("line", A >> B)
SPREAD = workflow("spread", fan_out(A, B, join=JOIN) >> A)
MAPPED = workflow("mapped", each(A >> B, join=JOIN))
RUNS = 50
"""Runs of each producer."""


def prune_on(url: str, older_than: float, stop: threading.Event) -> Removed:
    """Prune again and again until told to stop, and once more."""
    removed = Removed()
    while True:
        last = stop.is_set()
        for batch in Pruner(url, Rule(older_than)).batches():
            removed += batch
        if last:
            return removed


def act(agent: str, value: Any, claimed: Any) -> Any:
    if claimed.tenant == "failing" and agent == "b":
        raise Boom("no")
    return value


def test_nobody_deadlocks_with_it_and_no_run_is_lost(migrated: str) -> None:
    """Everything that can happen to runs happens to runs that are being pruned."""
    stop = threading.Event()
    known: list[UUID] = []
    looking = Bench(migrated, size=6)

    def produce(seed: int) -> None:
        bench, rng = Bench(migrated, seed=seed), random.Random(seed)
        for number in range(RUNS):
            tenant = rng.choice(["default", "failing"])
            definition, value = rng.choice([(LINE, 1), (SPREAD, 1), (MAPPED, [1, 2, 3]), (MAPPED, [])])
            known.append(bench.submit(definition, value, tenant=tenant, idempotency_key=f"{seed} {number}"))
            bench.drain(act)
        bench.close()

    def disturb(what: Callable[[UUID], object]) -> Callable[[], int]:
        def on() -> int:
            rng, done = random.Random(0), 0
            while not stop.is_set():
                if known:
                    with suppress(NotFound, Conflict):
                        what(rng.choice(known[-30:]))
                        done += 1
            return done

        return on

    feed = Feed(looking.pool)
    with ThreadPoolExecutor(8) as threads:
        pruners = [threads.submit(prune_on, migrated, 0.2, stop) for _ in range(2)]
        producers = [threads.submit(produce, seed) for seed in (1, 2)]
        others = [
            threads.submit(disturb(lambda run: feed.read(run))),
            threads.submit(disturb(lambda run: looking.engine.resume(run))),
            threads.submit(disturb(lambda run: looking.engine.cancel(run))),
        ]
        for one in producers:
            one.result(90)
        stop.set()
        disturbed = [one.result(60) for one in others]
        removed = sum((one.result(60) for one in pruners), Removed())

    print(f"{len(known)} runs, {removed.runs} pruned; read, resumed, cancelled: {disturbed}")
    assert removed.runs > RUNS
    assert looking.query("SELECT count(*) FROM runs") == [(2 * RUNS - removed.runs,)]
    for table in ("steps", "attempts", "events", "idempotency_keys"):
        orphans = f"SELECT count(*) FROM {table} WHERE run_id NOT IN (SELECT id FROM runs)"  # noqa: S608
        assert looking.query(orphans) == [(0,)]
    looking.close()


def test_workers_do_not_notice_it(alone: Stack) -> None:
    """Real workers, and a prune that removes each run a moment after its end."""
    workers = [alone.worker("increment", "double", "count_to", "add_up", concurrency=8) for _ in range(2)]
    stop, rounds = threading.Event(), 5
    with ThreadPoolExecutor(1) as threads:
        pruning = threads.submit(prune_on, alone.database_url, 0.0, stop)
        for _ in range(rounds):
            alone.client.submit_many(arithmetic.line, range(20))
            alone.client.submit_many(arithmetic.mapped, [3] * 20)
            eventually(lambda: unfinished(alone) < 40, timeout=40)
        eventually(lambda: unfinished(alone) == 0, timeout=60)
        stop.set()
        removed = pruning.result(60)

    # Every run ran to its end, with all of its steps, and is gone
    assert removed.runs == 40 * rounds
    assert removed.steps == 20 * rounds * (5 + 6)
    assert removed.attempts == 20 * rounds * (5 + 5)
    assert alone.query("SELECT count(*) FROM events") == [(0,)]
    for worker in workers:
        assert worker.alive
        assert "deadlock" not in worker.text()
        assert "Traceback" not in worker.text()


def unfinished(stack: Stack) -> int:
    return int(stack.query("SELECT count(*) FROM runs WHERE finished_at IS NULL")[0][0])
