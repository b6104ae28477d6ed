"""A process that is stopped in the middle of a transaction: what it has locked is free for others before it goes on."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psutil
import pytest

from orchestrator.definitions.vocabulary import each, workflow
from orchestrator.engine import Claimed, Engine, Pointer, Refused, Wanted
from orchestrator.engine.reserving import Busy, Granted, Wish
from orchestrator.store.connect import LONGEST_PAUSE
from schemas.limits import Limit
from schemas.usage import Budget, Usage
from tests.integration.engine.bench import Bench, done, named
from tests.support import Process, Processes, eventually

WORK = workflow("work", each(named("work")), budget=Budget(tokens=100))
ONE = Limit(concurrency=1)

FROZEN = """
import os, signal, sys
from uuid import UUID, uuid4
from orchestrator.engine import Engine, Pointer, Wanted, WorkerId, limits, reserving
from orchestrator.engine.reserving import Wish
from orchestrator.store import connect
from schemas.limits import Limit
from schemas.usage import Usage

url, what, run, attempt = sys.argv[1:]
connect.LONGEST_PAUSE = 0.3
engine = Engine(connect.Pool(url), WorkerId(uuid4(), "frozen"))

def freeze_once(room, name):
    act = getattr(room, name)
    def frozen(*args):
        setattr(room, name, act)
        os.kill(os.getpid(), signal.SIGSTOP)
        return act(*args)
    setattr(room, name, frozen)

if what == "limit":
    freeze_once(limits, "_decide")
    print(engine.claim_within(Wanted(Pointer(UUID(run), "0/0"), "work", (Limit(concurrency=1),))))
else:
    freeze_once(reserving, "_answer")
    worst = Usage(tokens=60, model_calls=1)
    print(engine.reserve([Wish(uuid4(), UUID(run), "0/0", int(attempt), "work", "openai:x", worst)]))
"""


def frozen(processes: Processes, bench: Bench, *args: Any) -> Process:
    """A process that is stopped while it holds what it decides about."""
    process = processes.python(FROZEN, bench.url, *map(str, args))

    def is_stopped() -> None:
        assert process.alive, process.text()
        assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED

    eventually(is_stopped, timeout=30)
    return process


def meanwhile(act: Any, *args: Any) -> Any:
    """What somebody else is answered, who waits for no thaw."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(act, *args).result(timeout=30)


def thawed(process: Process) -> str:
    """What the process has to say when it goes on."""
    process.signal(signal.SIGCONT)
    assert process.wait() == 0, process.text()
    return process.text()


def test_a_process_frozen_at_a_limit_is_not_waited_for(processes: Processes, bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    process = frozen(processes, bench, "limit", run, 0)

    other = meanwhile(bench.engine.claim_within, Wanted(Pointer(run, "0/1"), "work", (ONE,)))

    assert isinstance(other, Claimed)
    assert str(Refused("it waits for a limit: concurrency of work")) in thawed(process)
    assert bench.query("SELECT path FROM permits") == [("0/1",)]


@pytest.mark.parametrize("is_over", [False, True])
def test_a_process_frozen_at_a_budget_is_not_waited_for(
    processes: Processes, bench: Bench, is_over: bool
) -> None:
    run = bench.submit(WORK, [1, 2])
    first, second = (bench.claim(run, path) for path in ("0/0", "0/1"))
    process = frozen(processes, bench, "budget", run, first.attempt)

    wish = Wish(uuid4(), run, "0/1", second.attempt, "work", "openai:x", Usage(tokens=60, model_calls=1))
    assert meanwhile(bench.engine.reserve, [wish]) == [Granted()]
    if is_over:
        bench.engine.release(Pointer(run, "0/0"))

    assert ("Over(attempt=1)" if is_over else str(Busy(f"budget of run {run}"))) in thawed(process)
    assert bench.query("SELECT path FROM reservations") == [("0/1",)]


def test_an_outcome_of_a_process_that_overslept_is_recorded_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.submit(workflow("w", named("work")))
    claimed = bench.claim(run, "0")
    count_rests, tries = Engine._count_rests, []

    def oversleeps(self: Engine, conn: Any, *args: Any) -> Any:
        tries.append(conn)
        if len(tries) == 1:
            pid = conn.info.backend_pid
            eventually(lambda: bench.query("SELECT pid FROM pg_stat_activity WHERE pid = %s", pid) == [])
            monkeypatch.setattr("orchestrator.store.connect.LONGEST_PAUSE", LONGEST_PAUSE)
        return count_rests(self, conn, *args)

    monkeypatch.setattr(Engine, "_count_rests", oversleeps)
    monkeypatch.setattr("orchestrator.store.connect.LONGEST_PAUSE", 0.05)
    bench.pool.close()  # those that are made from now on have this pause

    recorded = bench.engine.record(done(claimed))

    assert recorded.accepted
    assert len(tries) == 2
    assert len(bench.query("SELECT attempt FROM attempts WHERE run_id = %s", run)) == 1


def test_no_transaction_is_left_alone_for_longer_than_is_said(bench: Bench) -> None:
    with bench.pool.connection() as conn:
        (found,) = conn.execute("SHOW idle_in_transaction_session_timeout").fetchone() or ("",)

    assert found == f"{LONGEST_PAUSE:g}s"
