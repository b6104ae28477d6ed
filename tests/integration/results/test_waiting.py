"""Waiting: prompt, without a busy poll, and together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import TimeoutError
from celery.result import AsyncResult, ResultSet

from orchestrator.results import Backend
from orchestrator.results.waiting import Watch
from tests.support import eventually


class Counting(Backend):
    """Counts its queries for finished tasks."""

    queries = 0

    def read_ready(self, task_ids: Sequence[str]) -> dict[str, bytes]:
        self.queries += 1
        return super().read_ready(task_ids)


@pytest.fixture
def counting(lonely: Celery) -> Iterator[Counting]:
    backend = Counting(lonely, url=lonely.conf.result_backend.partition("+")[2])
    yield backend
    backend.close()


def test_many_waiters_share_one_query_and_wake_promptly(counting: Counting) -> None:
    ids = [f"t{n}" for n in range(20)]
    counting.task_result_exists("connects")
    woken: dict[str, float] = {}

    def wait(task_id: str) -> Any:
        value = AsyncResult(task_id, backend=counting, app=counting.app).get(timeout=20)
        woken[task_id] = time.monotonic()
        return value

    with ThreadPoolExecutor(len(ids)) as pool:
        waiting = [pool.submit(wait, task_id) for task_id in ids]
        eventually(lambda: len(counting._watch._wanted) == len(ids))
        before = time.monotonic(), counting.queries
        # Long enough for the pause between queries to be at its longest.
        eventually(lambda: counting.queries > before[1] + 15)
        elapsed = time.monotonic() - before[0]
        stored = time.monotonic()
        for task_id in ids:
            counting.mark_as_done(task_id, task_id)
        assert [done.result(20) for done in waiting] == ids
    assert (15 / elapsed) < 100, "fewer queries than waiters times twenty a second"
    assert max(woken.values()) - stored < 1.0


def test_a_deadline_of_zero_sees_what_is_there(lonely: Celery, backend: Backend) -> None:
    backend.mark_as_done("there", 1)
    assert AsyncResult("there", app=lonely).get(timeout=0) == 1
    with pytest.raises(TimeoutError):
        AsyncResult("missing", app=lonely).get(timeout=0)


def test_whoever_polls_may_leave_and_another_goes_on(lonely: Celery, backend: Backend) -> None:
    patient = threading.Thread(target=lambda: got.append(AsyncResult("late", app=lonely).get(timeout=20)))
    got: list[Any] = []
    impatient = threading.Thread(target=gives_up, args=(lonely,))
    impatient.start()
    patient.start()
    impatient.join(20)
    backend.mark_as_done("late", "here")
    patient.join(20)
    assert got == ["here"]


def gives_up(app: Celery) -> None:
    with pytest.raises(TimeoutError):
        AsyncResult("never", app=app).get(timeout=0.1)


def test_callbacks_of_get(lonely: Celery, backend: Backend) -> None:
    intervals: list[int] = []
    messages: list[Any] = []

    def on_interval() -> None:
        intervals.append(1)
        backend.mark_as_done("t", "now")

    result = AsyncResult("t", app=lonely)
    value = result.get(timeout=20, interval=0.01, on_interval=on_interval, on_message=messages.append)
    assert value == "now"
    assert intervals == [1], "a promise of Celery's, so it is called once"
    assert [meta["task_id"] for meta in messages] == ["t"]


def test_results_arrive_as_they_finish(lonely: Celery, backend: Backend) -> None:
    for task_id in ("a", "b"):
        backend.mark_as_done(task_id, task_id)
    results = ResultSet([AsyncResult(n, app=lonely) for n in ("c", "b", "a")], app=lonely)
    arriving = results.iter_native(timeout=20)
    assert {next(arriving)[0], next(arriving)[0]} == {"a", "b"}
    backend.mark_as_done("c", "c")
    assert next(arriving)[0] == "c"
    assert results.join_native(timeout=20) == ["c", "b", "a"]
    with pytest.raises(TimeoutError):
        ResultSet([AsyncResult("z", app=lonely)], app=lonely).get(timeout=0.05)


def test_a_failed_poller_does_not_silence_the_others() -> None:
    broken = threading.Event()

    def read(ids: Sequence[str]) -> dict[str, bytes]:
        if not broken.is_set():
            broken.set()
            raise OSError("gone")
        return dict.fromkeys(ids, b"payload")

    watch = Watch(read)
    with watch.on(["a"]) as take:
        with pytest.raises(OSError, match="gone"):
            take(5)
        assert take(5) == {"a": b"payload"}


def test_a_child_process_does_not_wait_for_its_parents_poller(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(lambda ids: dict.fromkeys(ids, b""))
    watch._polling = True
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with watch.on(["a"]) as take:
        assert take(5) == {"a": b""}


class Elsewhere(Backend):
    """Keeps the results of some tasks in a place of its own."""

    def read_ready(self, task_ids: Sequence[str]) -> dict[str, Any]:
        own = [task_id for task_id in task_ids if task_id.startswith("own-")]
        others = [task_id for task_id in task_ids if task_id not in own]
        metas = {i: {"task_id": i, "status": "SUCCESS", "result": "elsewhere", "children": []} for i in own}
        return {**super().read_ready(others), **metas}


def test_a_subclass_may_answer_for_tasks_of_its_own(lonely: Celery, backend: Backend) -> None:
    elsewhere = Elsewhere(lonely, url=backend.url)
    backend.mark_as_done("other", "here")
    results = [AsyncResult(n, app=lonely, backend=elsewhere) for n in ("own-1", "other")]
    assert [result.get(timeout=5) for result in results] == ["elsewhere", "here"]
    elsewhere.close()
