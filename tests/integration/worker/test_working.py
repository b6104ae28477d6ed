"""Runs from the client to the workers and back, through Celery's own canvas."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.engine import Pointer
from orchestrator.messaging.bell import Bell
from orchestrator.messaging.canvas import task_id
from schemas.errors import RunFailed
from schemas.runs import RunState
from tests.agents import arithmetic, misbehaving
from tests.integration.worker.stack import Stack
from tests.support import eventually


def test_a_pipeline_runs_its_stages_one_after_the_other(shared: Stack) -> None:
    run = shared.submit(arithmetic.line, 1)

    assert run.result(40) == 11
    view = run.view()
    assert [step.path for step in view.steps] == ["0", "1", "2", "3", "4"]
    assert {step.attempt for step in view.steps} == {1}
    assert not view.degraded


def test_a_fan_out_joins_its_branches(shared: Stack) -> None:
    assert shared.run(arithmetic.spread, 1) == {"sum": 7, "gaps": []}


def test_each_maps_a_list_of_any_length(shared: Stack) -> None:
    assert [shared.run(arithmetic.mapped, n) for n in (0, 1, 50)] == [0, 0, 50 * 49]


def test_patterns_nest(shared: Stack) -> None:
    assert shared.run(arithmetic.nested, 5) == sum(2 * (n + 1) for m in range(5) for n in range(m))


def test_many_runs_at_the_same_time_each_get_their_own_result(shared: Stack) -> None:
    runs = shared.client.submit_many(arithmetic.spread, range(60))

    assert [run.result(60)["sum"] for run in runs] == [(n + 2) + 2 * (n + 1) for n in range(60)]


def test_an_agent_sees_its_envelope(shared: Stack) -> None:
    run = shared.submit(arithmetic.envelope, 6, tenant="acme", labels={"kind": "test"})

    assert run.result(40) == {
        "intent": 6,
        "path": "1",
        "attempt": 1,
        "tenant": "acme",
        "labels": {"kind": "test"},
        "key": "1",
        "has time": True,
    }
    assert run.view().steps[1].usage.tokens == 10
    progress = [event.data for event in shared.client.events(run.id) if event.kind == "step.progress"]
    assert progress == [{"seen": 7}]


def test_the_stream_of_a_run_ends_with_the_run(shared: Stack) -> None:
    events = list(shared.submit(arithmetic.line, 1).stream())

    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert events[-1].kind == "run.completed"


def test_celery_knows_the_result_of_a_step(shared: Stack) -> None:
    run = shared.submit(arithmetic.line, 1)
    run.result(40)
    from orchestrator.messaging.broker import shared_app
    from orchestrator.places import Places

    app = shared_app(Places(shared.database_url, shared.broker_url))
    result = app.AsyncResult(task_id(Pointer(run.id, "1")))

    assert result.state == "SUCCESS"
    assert result.get(timeout=10) == 4


def test_prefork_workers_run_agents_in_their_children(shared: Stack) -> None:
    run = shared.submit(arithmetic.forked, 0)

    run.result(40)

    (worker,) = {step.worker for step in run.view().steps if step.agent == "forked_process"}
    assert worker is not None
    assert worker.startswith("prefork")
    assert {one.pool for one in shared.client.workers() if one.name == worker} == {"prefork"}


def test_a_hundred_async_agents_share_one_event_loop(shared: Stack) -> None:
    # Each waits for all the others
    place = str(time.time_ns())
    output = shared.run(arithmetic.meeting, [f"{place} {n}" for n in range(100)], timeout=60)

    assert len(output["results"]) == 100
    assert len(set(output["results"])) == 1


def test_a_failed_attempt_is_tried_again_after_a_pause_that_grows(shared: Stack) -> None:
    run = shared.submit(misbehaving.retried, 0)

    assert run.result(40) == 3
    assert shared.kinds(run, "0") == [
        "step.started",
        "step.retrying",
        "step.started",
        "step.retrying",
        "step.started",
        "step.done",
    ]
    at = [event.at.timestamp() for event in shared.client.events(run.id) if event.path == "0"]
    assert at[2] - at[1] >= 0.15
    assert at[4] - at[3] >= 0.35


def test_a_run_that_failed_for_good_goes_on_where_it_failed(shared: Stack, tmp_path: Path) -> None:
    # Given a run whose second stage fails and is not worth a retry
    flag = tmp_path / "flag"
    run = shared.submit(misbehaving.resumed, str(flag))
    with pytest.raises(RunFailed, match="the file is not there"):
        run.result(40)
    assert shared.kinds(run, "1") == ["step.started", "step.failed"]

    # When the cause is gone and the run is resumed
    flag.touch()
    shared.client.resume(run.id)

    # Then it ends, and the first stage was executed once
    assert run.result(40) == str(flag)
    assert flag.with_suffix(".log").read_text() == "executed\n" * 2
    assert shared.kinds(run, "0") == ["step.started", "step.done"]


def test_an_async_agent_is_stopped_when_its_time_is_up(shared: Stack, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"the step took longer than 0\.5 s"):
        shared.run(misbehaving.timed_out, str(tmp_path / "x"))

    assert (tmp_path / "x.stopped").exists()


def test_a_sync_agent_in_a_thread_is_not_heard_when_its_time_is_up(shared: Stack, tmp_path: Path) -> None:
    run = shared.submit(misbehaving.late, str(tmp_path / "x"))

    with pytest.raises(RunFailed, match=r"the step took longer than 0\.3 s"):
        run.result(40)
    eventually(lambda: (tmp_path / "x.late").exists())
    assert run.view().output is None
    assert run.view().state is RunState.FAILED


def test_a_sync_agent_in_a_child_process_is_interrupted_when_its_time_is_up(shared: Stack) -> None:
    with pytest.raises(RunFailed, match=r"the step took longer than 0\.5 s"):
        shared.run(misbehaving.killed_softly, 0)


def test_an_agent_that_does_not_listen_is_killed_with_its_child_process(shared: Stack) -> None:
    with pytest.raises(RunFailed, match=r"the step took longer than 0\.\d s, and was killed"):
        shared.run(misbehaving.killed_hard, 0)
    assert shared.run(arithmetic.forked, 1) > 0


def test_a_step_that_took_its_process_with_it_runs_again(shared: Stack) -> None:
    run = shared.submit(misbehaving.suicidal, 0)

    assert run.result(40) == 2
    assert run.view().steps[1].losses == 1
    assert shared.kinds(run, "1") == ["step.started", "step.lost", "step.started", "step.done"]


def test_a_rate_limit_holds_and_costs_no_repetitions(shared: Stack) -> None:
    run = shared.submit(misbehaving.at_most, list(range(15)))

    assert run.result(60)["results"] == list(range(15))
    events = shared.client.events(run.id)
    at = sorted(event.at.timestamp() for event in events if event.kind == "step.started")
    assert len(at) == 15
    assert at[-1] - at[0] >= 2.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong_type", "wrong_type returned str: Input should be a valid integer"),
        ("not_json", "not_json returned what has no JSON form"),
        ("nul_output", "NUL"),
        ("lone_surrogate", "lone_surrogate returned"),
        ("nul_error", "a�b ?"),
        ("leaves", "SystemExit|3"),
        ("async_leaves", "SystemExit|3"),
        ("cancels_itself", "ancel"),
        ("bare", "ValueError"),
    ],
)
def test_whatever_an_agent_does_is_an_outcome(shared: Stack, name: str, message: str) -> None:
    with pytest.raises(RunFailed, match=message):
        shared.run(misbehaving.faults[name], 0)


def test_an_agent_that_tries_to_end_the_worker_takes_nobody_with_it(shared: Stack) -> None:
    with pytest.raises(RunFailed):
        shared.run(misbehaving.faults["async_leaves"], 0)

    assert shared.run(arithmetic.line, 1) == 11


def test_a_failed_branch_is_a_gap_that_the_join_can_read(shared: Stack) -> None:
    run = shared.submit(misbehaving.tolerant, 4)

    assert run.result(40) == {"sum": 8, "gaps": ["bare"]}
    assert run.view().degraded


@pytest.mark.parametrize(("name", "value"), [("line", 1), ("doubled", 1), ("nested", 3)])
def test_the_worker_that_ends_a_run_wakes_whoever_waits_for_it(shared: Stack, name: str, value: int) -> None:
    listener = Bell(shared.broker_url)
    run = shared.submit(getattr(arithmetic, name), value, delay=1)
    with listener.listening(run.id) as wait:
        assert wait is not None
        wait(30)
        assert run.view().state is RunState.COMPLETED
    listener.close()


def test_a_queue_that_nobody_serves_is_named(shared: Stack) -> None:
    run = shared.submit(arithmetic.unserved, 1)

    note = eventually(lambda: run.view().notes[0] if run.view().notes else False)

    assert note == "no worker serves agent.unserved: 1 step waits; start one with: baton worker unserved"
    run.cancel()
