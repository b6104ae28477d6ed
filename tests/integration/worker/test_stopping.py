"""Cancelled and paused runs, seen from their workers: what runs is stopped or not heard, and nothing more starts."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from orchestrator.client import RunHandle
from schemas.errors import RunFailed
from schemas.runs import RunState
from schemas.workflows import Workflow
from tests.agents import arithmetic, misbehaving
from tests.integration.worker.stack import Stack
from tests.support import eventually

SOON = 2.0
"""Seconds within which a running agent has to be stopped."""


def cancelled(run: RunHandle) -> float:
    """Cancel a run; when that had returned."""
    run.cancel("enough")
    return time.time()


def stopped(since: float, *marks: Path) -> float:
    """Seconds from then until the last of these marks was left."""
    eventually(lambda: all(mark.exists() for mark in marks))
    return max(mark.stat().st_mtime for mark in marks) - since


def started(mark: Path) -> int:
    """The process that left this mark."""
    return int(eventually(lambda: (mark.exists() and mark.read_text()) or False))


# --- cancel -----------------------------------------------------------------------------------------------


def test_a_cancel_stops_a_running_async_agent(shared: Stack, tmp_path: Path) -> None:
    run = shared.submit(misbehaving.waits, str(tmp_path / "x"))
    eventually(lambda: (tmp_path / "x.started").exists())

    took = stopped(cancelled(run), tmp_path / "x.stopped")

    print(f"stopped after {took:.2f} s")
    assert took < SOON
    assert run.view().state is RunState.CANCELLED
    with pytest.raises(RunFailed, match="cancelled"):
        run.result(10)


def test_a_cancel_stops_many_agents_of_a_worker_that_is_busy(shared: Stack, tmp_path: Path) -> None:
    # Given a run whose hundred steps wait side by side in one worker, which has much else to do
    places = [tmp_path / f"{n}.x" for n in range(100)]
    run = shared.submit(misbehaving.many_wait, [str(place) for place in places])
    eventually(lambda: all(place.with_suffix(".started").exists() for place in places), timeout=30)
    others = shared.client.submit_many(arithmetic.line, range(300))

    took = stopped(cancelled(run), *[place.with_suffix(".stopped") for place in places])

    still = sum(other.view().state in (RunState.QUEUED, RunState.RUNNING) for other in others)
    print(f"100 agents had stopped after {took:.2f} s, when {still} of 300 other runs were under way")
    assert took < 2 * SOON  # the machine may have even more to do
    assert [other.result(60) for other in others] == [4 * n + 7 for n in range(300)]


def test_a_cancel_interrupts_a_sync_agent_in_a_child_process(shared: Stack, tmp_path: Path) -> None:
    run = shared.submit(misbehaving.forked_sleeps, str(tmp_path / "x"))
    child = started(tmp_path / "x.started")

    took = stopped(cancelled(run), tmp_path / "x.stopped")

    print(f"interrupted after {took:.2f} s")
    assert took < SOON
    # and the child goes on with other work
    assert psutil.pid_exists(child)
    assert shared.run(arithmetic.forked, 1) > 0
    assert run.view().steps[0].losses == 0


def test_a_cancel_kills_a_child_process_whose_agent_does_not_listen(shared: Stack, tmp_path: Path) -> None:
    run = shared.submit(misbehaving.forked_sleeps_deaf, str(tmp_path / "x"))
    child = started(tmp_path / "x.started")

    since = cancelled(run)
    eventually(lambda: not psutil.pid_exists(child))

    print(f"killed after {time.time() - since:.2f} s")
    # and that is no loss, and nothing runs it again
    assert shared.run(arithmetic.forked, 1) > 0
    assert shared.kinds(run, "0") == ["step.started"]
    assert run.view().steps[0].losses == 0


def test_a_cancel_stops_an_async_agent_in_a_child_process(shared: Stack, tmp_path: Path) -> None:
    run = shared.submit(misbehaving.forked_waits, str(tmp_path / "x"))
    eventually(lambda: (tmp_path / "x.started").exists())

    took = stopped(cancelled(run), tmp_path / "x.stopped")

    assert took < SOON
    assert shared.run(arithmetic.forked, 1) > 0


def test_an_async_agent_in_a_child_process_is_stopped_when_its_time_is_up(
    shared: Stack, tmp_path: Path
) -> None:
    with pytest.raises(RunFailed, match=r"the step took longer than 0\.5 s"):
        shared.run(misbehaving.forked_times_out, str(tmp_path / "x"))
    eventually(lambda: (tmp_path / "x.stopped").exists())


def test_a_sync_agent_in_a_thread_is_not_heard_after_a_cancel(alone: Stack, tmp_path: Path) -> None:
    # Given a step that nobody can stop
    alone.worker("gated", "increment")
    gate = tmp_path / "gate"
    run = alone.submit(misbehaving.gate, str(gate))
    eventually(lambda: gate.with_suffix(".pids").exists())

    # When its run is cancelled, and it ends afterwards
    run.cancel()
    gate.touch()

    # Then its outcome is refused, and its worker goes on
    assert alone.run(arithmetic.single, 1) == 2
    assert [step.state for step in run.view().steps] == ["cancelled"]
    assert alone.query("SELECT count(*) FROM attempts WHERE run_id = %s", run.id) == [(0,)]


# --- pause ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", [misbehaving.gate, misbehaving.gated_branches], ids=["chain", "chord"])
def test_what_runs_in_a_paused_run_ends_and_the_canvas_goes_on_with_the_resume(
    alone: Stack, tmp_path: Path, definition: Workflow
) -> None:
    # Given a run that is paused while its first steps run
    alone.worker("gated", "increment", "add_up")
    gate = tmp_path / "gate"
    run = alone.submit(definition, str(gate))
    eventually(lambda: gate.with_suffix(".pids").exists())
    alone.client.pause(run.id, "lunch")

    # When they end
    gate.touch()
    eventually(lambda: alone.query("SELECT count(*) FROM attempts WHERE state = 'done'") > [(0,)])
    eventually(lambda: alone.query("SELECT count(*) FROM steps WHERE state = 'running'") == [(0,)])

    # Then nothing more starts, though the worker is there, until the run is resumed
    assert alone.run(arithmetic.single, 1) == 2
    started = [event.path for event in alone.client.events(run.id) if event.kind == "step.started"]
    assert set(started) <= {"0", "0/a", "0/b"}
    assert run.view().state is RunState.PAUSED
    alone.client.resume(run.id)
    assert run.result(30) == 2
    assert {step.attempt for step in run.view().steps if step.agent} == {1}
