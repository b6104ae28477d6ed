"""What waits, waits in Postgres: real workers fire it in time, and neither Redis nor a worker holds it meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import RunHandle
from orchestrator.engine import Pointer
from orchestrator.messaging.broker import shared_app
from orchestrator.messaging.canvas import task_id
from orchestrator.places import Places
from schemas.runs import RunState
from schemas.workflows import Workflow
from tests.agents import arithmetic, misbehaving
from tests.integration.worker.stack import Stack
from tests.support import eventually

MUCH = 4.0
"""Seconds by which a timer may be late on a machine that is busy with other tests; recovery would take longer."""


def messages(stack: Stack) -> dict[bytes, int]:
    """How many messages each key of the broker holds, those that a worker has not acknowledged included."""
    with stack.redis() as client:
        queues = {key: client.llen(key) for key in client.keys("agent.*")}
        return {key: count for key, count in {**queues, b"unacked": client.hlen("unacked")}.items() if count}


def is_retrying(stack: Stack, run: RunHandle) -> bool:
    return bool(stack.query("SELECT FROM events WHERE run_id = %s AND kind = 'step.retrying'", run.id))


def lateness(stack: Stack, run: RunHandle, path: str) -> float:
    """Seconds between the moment when a retry was due and its start."""
    ((late,),) = stack.query(
        "SELECT extract(epoch FROM b.at - a.at)::float8 - (a.data ->> 'retry_in')::float8"
        " FROM events a JOIN events b USING (run_id, path)"
        " WHERE run_id = %s AND path = %s AND a.kind = 'step.retrying' AND b.kind = 'step.started' AND b.at > a.at",
        run.id,
        path,
    )
    return float(late)


class CeleryEvents:
    """What Celery tells Flower about tasks, while this block lasts."""

    def __init__(self, stack: Stack) -> None:
        self._app = shared_app(Places(stack.database_url, stack.broker_url))
        self._receiver: Any = None
        self._thread = threading.Thread(target=self._listen)
        self.heard: list[dict[str, Any]] = []

    def of(self, task: str) -> list[str]:
        return [event["type"] for event in self.heard if event.get("uuid") == task]

    def __enter__(self) -> CeleryEvents:
        self._app.control.enable_events()
        self._thread.start()
        eventually(lambda: "worker-heartbeat" in {event["type"] for event in self.heard})
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.should_stop = True
        self._thread.join()
        self._app.control.disable_events()

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            self._receiver = self._app.events.Receiver(connection, handlers={"*": self.heard.append})
            self._receiver.capture(limit=None, timeout=None, wakeup=False)


@pytest.mark.parametrize(
    "definition", [misbehaving.waiting, misbehaving.sync_waiting], ids=["event loop", "threads"]
)
def test_a_retry_waits_in_postgres_alone_and_celery_hears_of_it(shared: Stack, definition: Workflow) -> None:
    with CeleryEvents(shared) as events:
        # Given a chain whose second link failed and is to be tried again after two seconds
        run = shared.submit(definition, 1)
        eventually(lambda: is_retrying(shared, run))

        # Then nothing of it is in the broker, nor in the worker, and the link after it was not sent
        eventually(lambda: messages(shared) == {}, timeout=1.5)
        assert [step.state.value for step in run.view().steps] == ["done", "ready"]

        # When that time has passed, then it runs again in time, and the chain goes on
        assert run.result(20) == 4
        late = lateness(shared, run, "1")
        print(f"late by {late * 1000:.0f} ms")
        assert 0 <= late < MUCH
        assert shared.kinds(run, "2") == ["step.started", "step.done"]

        # And Celery tells of one task that was tried twice
        wanted = [
            "task-received",
            "task-started",
            "task-retried",
            "task-received",
            "task-started",
            "task-succeeded",
        ]

        def told() -> None:
            assert events.of(task_id(Pointer(run.id, "1"))) == wanted

        eventually(told)


def test_branches_that_are_tried_again_are_joined_once(shared: Stack) -> None:
    runs = [shared.submit(misbehaving.waiting_branches, n) for n in range(10)]

    assert [run.result(20)["sum"] for run in runs] == [4 * n for n in range(10)]
    assert {tuple(shared.kinds(run, "0/join")) for run in runs} == {("step.started", "step.done")}


def test_a_retry_is_in_time_although_the_worker_that_wants_it_was_killed(alone: Stack) -> None:
    # Given a step that waits for its retry, and two workers
    workers = {
        "threads1@localhost": alone.worker("increment", "fails_once"),
        "threads2@localhost": alone.worker("increment", "fails_once", "double"),
    }
    run = alone.submit(misbehaving.waiting, 1)
    eventually(lambda: is_retrying(alone, run))

    # When the worker that ran it is killed, if it is not the only one that can end the run
    workers["threads1@localhost"].kill()

    # Then the other one starts it in time
    assert run.result(20) == 4
    assert 0 <= lateness(alone, run, "1") < MUCH


def test_delayed_starts_are_in_time(shared: Stack) -> None:
    due = {}
    for n in range(30):
        run = shared.submit(arithmetic.single, n, delay=0.5 + n / 100)
        ((due[run.id],),) = shared.query("SELECT due_at FROM steps WHERE run_id = %s", run.id)

    eventually(lambda: all(shared.client.run(one).state == "completed" for one in due), timeout=20)

    started = dict(shared.query("SELECT run_id, started_at FROM steps WHERE run_id = ANY (%s)", list(due)))
    late = sorted((started[one] - due[one]).total_seconds() for one in due)
    print(f"late by {late[15] * 1000:.0f} ms (p50), {late[-1] * 1000:.0f} ms (most)")
    assert late[0] >= 0
    assert late[-1] < MUCH


def test_a_run_ends_when_its_time_is_up_and_its_running_step_is_stopped(
    shared: Stack, tmp_path: Path
) -> None:
    limited = misbehaving.waits.model_copy(update={"timeout": 0.8})
    run = shared.submit(limited, str(tmp_path / "x"))

    eventually(lambda: run.view().state == "failed")

    view = run.view()
    assert view.error is not None
    assert view.error.type == "DeadlineExceeded"
    assert view.finished_at is not None
    assert 0.8 <= (view.finished_at - view.created_at).total_seconds() < 0.8 + MUCH
    eventually(lambda: (tmp_path / "x.stopped").exists())


def test_a_schedule_starts_its_runs_in_time_and_once_each(shared: Stack) -> None:
    shared.client.schedule("seconds", arithmetic.single, 41, every=1)

    runs = eventually(lambda: _ended(shared, at_least=3))

    shared.client.schedules.remove("seconds")
    assert {shared.client.run(run).output for run in runs} == {42}
    rows = shared.query(
        "SELECT extract(epoch FROM s.started_at - split_part(k.key, ' ', 3)::timestamptz)::float8"
        " FROM idempotency_keys k JOIN steps s USING (run_id) WHERE k.key LIKE 'schedule seconds %%'"
    )
    late = sorted(seconds for (seconds,) in rows)
    print(f"late by {late[0] * 1000:.0f} to {late[-1] * 1000:.0f} ms")
    assert len(late) == len(shared.client.runs(label="schedule=seconds"))
    assert late[0] >= 0
    assert late[-1] < MUCH


def _ended(stack: Stack, *, at_least: int) -> list[Any]:
    found = stack.client.runs(label="schedule=seconds", state=RunState.COMPLETED)
    assert len(found) >= at_least
    return [run.id for run in found]
