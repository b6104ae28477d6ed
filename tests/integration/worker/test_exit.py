"""Workers that are told to end: in bounded time, with nothing lost and nothing that others have to wait for."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from orchestrator.client import RunHandle
from tests.agents import arithmetic, misbehaving
from tests.integration.worker.stack import Stack, ready
from tests.support import Process, eventually

SOON = 3.0
"""Seconds within which what a leaving worker gave back runs elsewhere; recovery would take 5 or more."""


def begun(*gates: Path) -> None:
    """Wait until the gated agents of these gates have been started."""
    for gate in gates:
        eventually(gate.with_suffix(".pids").exists, timeout=20)


def handed_over(stack: Stack, run: RunHandle) -> float:
    """Seconds until the run's first step, which was handed back, ran again; nothing else must have befallen it."""
    told = [event for event in stack.client.events(run.id) if event.path == "0"]
    assert [event.kind.value for event in told] == [
        "step.started",
        "step.released",
        "step.started",
        "step.done",
    ]
    assert run.view().steps[0].losses == 0
    return (told[2].at - told[1].at).total_seconds()


def ended(worker: Process, within: float) -> None:
    since = time.monotonic()
    assert worker.wait(within) == 0, worker.text()
    print(f"{worker.name} ended after {time.monotonic() - since:.1f} s")
    assert "Traceback" not in worker.text()


def test_what_outlasts_the_drain_time_goes_to_another_worker_at_once(alone: Stack, tmp_path: Path) -> None:
    # Given a step that does not end in a worker of each kind, and one more worker
    drain = {"BATON_DRAIN_SECONDS": "0.7"}
    leaving = [
        alone.begin("gated_async", **drain),
        alone.begin("gated", concurrency=1, **drain),
        alone.begin("gated", concurrency=1, pool="prefork", **drain),
    ]
    for worker in leaving:
        ready(worker)
    gates = [tmp_path / name for name in ("async", "one", "two")]
    runs = [
        alone.submit(misbehaving.async_gate, str(gates[0])),
        alone.submit(misbehaving.gate, str(gates[1])),
        alone.submit(misbehaving.gate, str(gates[2])),
    ]
    begun(*gates)
    other = alone.worker("gated", "gated_async", "increment")

    # When all but that one are told to end
    for worker in leaving:
        worker.signal(signal.SIGTERM)

    # Then they do, and it goes on with their steps without delay
    for worker in leaving:
        ended(worker, within=20)
    for gate in gates:
        gate.touch()
    assert [run.result(20) for run in runs] == [2, 3, 3]
    delays = [handed_over(alone, run) for run in runs]
    print(f"ran again after {', '.join(f'{delay:.3f}' for delay in delays)} s")
    assert max(delays) < SOON
    # and the one that could be stopped was stopped
    assert gates[0].with_suffix(".stopped").exists()
    assert other.alive


def test_a_worker_asked_twice_ends_at_once(alone: Stack, tmp_path: Path) -> None:
    # Given a worker for each way to insist, in the middle of a step, with all the time in the world
    wishes = [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGQUIT,),
    ]
    workers = [alone.begin("gated", concurrency=1, BATON_DRAIN_SECONDS="600") for _ in wishes]
    for worker in workers:
        ready(worker)
    gates = [tmp_path / str(number) for number in range(3)]
    runs = [alone.submit(misbehaving.gate, str(gate)) for gate in gates]
    begun(*gates)
    alone.worker("gated", "increment")

    # When they are asked
    for worker, signals in zip(workers, wishes, strict=True):
        for number in signals:
            worker.signal(number)
            eventually(
                lambda worker=worker, signals=signals: (
                    "finishing what runs" in worker.text() or signals == (signal.SIGQUIT,)
                )
            )

    # Then they are gone, and their steps run elsewhere
    for worker in workers:
        ended(worker, within=20)
    for gate in gates:
        gate.touch()
    assert [run.result(20) for run in runs] == [3, 3, 3]
    assert max(handed_over(alone, run) for run in runs) < SOON


def test_a_leaving_worker_keeps_no_message_that_it_has_not_begun(alone: Stack, tmp_path: Path) -> None:
    # Given a worker that is busy for long, holds messages that it may not begin yet, and waits for more
    gate = tmp_path / "gate"
    # (whose heart may skip a beat where other tests take the processors)
    first = alone.worker("gated", "limited", "increment", concurrency=230, BATON_LEASE="10")
    busy = alone.submit(misbehaving.gate, str(gate))
    begun(gate)
    alone.submit(misbehaving.at_most, list(range(200)))
    eventually(lambda: alone.query("SELECT FROM steps WHERE agent = 'limited' AND state = 'done'") != [])
    second = alone.begin("increment", concurrency=230)
    ready(second)

    # When it is told to end, while work comes in
    first.signal(signal.SIGTERM)
    since = time.monotonic()
    runs = []
    for number in range(40):
        eventually(lambda due=since + 0.04 * number: time.monotonic() > due)
        runs.append(alone.submit(arithmetic.single, 0))

    # Then what it had not begun has gone back, and nothing that came waits for it
    assert waiting(alone, "agent.limited") >= unfinished(alone) > 0
    assert [run.result(SOON) for run in runs] == [1] * 40
    took = [view.finished_at - view.created_at for view in (run.view() for run in runs) if view.finished_at]
    print(f"the slowest took {max(took).total_seconds():.3f} s")
    # while it still does what it began, and counts as nobody's worker for anything else
    assert first.alive
    assert {pool.agent: pool.workers for pool in alone.client.pools()} == {
        "gated": 0,
        "increment": 1,
        "limited": 0,
    }
    gate.touch()
    ended(first, within=20)
    assert busy.result(20) == 2


def waiting(stack: Stack, queue: str) -> int:
    """Messages in a queue of Redis, of any priority."""
    with stack.redis() as client:
        return sum(client.llen(key) for key in client.keys(f"{queue}*"))


def unfinished(stack: Stack) -> int:
    return len(stack.query("SELECT FROM steps WHERE agent = 'limited' AND state <> 'done'"))
