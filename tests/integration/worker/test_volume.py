"""Many runs at once, and one very wide fan-out."""

from __future__ import annotations

import time

import psutil

from tests.agents import arithmetic
from tests.integration.worker.stack import Stack

MANY = 10_000
MEGABYTE = 1_000_000


def test_ten_thousand_runs_are_submitted_in_bulk_and_all_end(alone: Stack) -> None:
    started = time.monotonic()
    runs = alone.client.submit_many(arithmetic.single, range(MANY))
    submitted = time.monotonic()
    alone.worker("increment", concurrency=8)

    assert runs[-1].result(100) == MANY
    assert [run.result(100) for run in runs[::500]] == [n + 1 for n in range(0, MANY, 500)]
    ended = time.monotonic()
    print(f"submitted in {submitted - started:.1f} s, ended {ended - submitted:.1f} s later")


def test_a_fan_out_of_ten_thousand_needs_little_memory(alone: Stack) -> None:
    worker = alone.worker("count_to", "double", "add_up", concurrency=8)
    assert alone.run(arithmetic.mapped, 100) == 9_900
    memory = psutil.Process(worker.pid).memory_info().rss

    started = time.monotonic()
    assert alone.run(arithmetic.mapped, MANY, timeout=110) == MANY * (MANY - 1)

    growth = (psutil.Process(worker.pid).memory_info().rss - memory) / MEGABYTE
    print(f"{MANY} branches in {time.monotonic() - started:.1f} s, {growth:.0f} MB more")
    assert growth < 150
    rows = alone.query("SELECT max(attempt) FROM steps")
    assert rows == [(1,)]
