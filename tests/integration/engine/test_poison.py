"""Steps that cost one worker after the other: their losses are counted, and after the third they are set aside."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.vocabulary import fan_out, workflow
from orchestrator.engine import Engine, Pointer, Refused, WorkerId
from orchestrator.engine.values import WorkerBeat
from schemas.errors import Conflict
from schemas.settings import settings
from tests.integration.engine.bench import Bench, named

A, B, C = (named(name) for name in "abc")


def loses(bench: Bench, run: UUID, path: str, times: int = 1) -> None:
    """A worker claims the step and reports that the process which ran it is gone."""
    for _ in range(times):
        bench.claim(run, path)
        bench.messages += bench.engine.release(Pointer(run, path))


def dies(bench: Bench, run: UUID, path: str) -> None:
    """A worker claims the step, dies without a word and is found by recovery."""
    worker = WorkerId(uuid4(), "doomed")
    engine = Engine(bench.pool, worker)
    engine.beat(WorkerBeat(worker, ("agent.a",), 1, "threads", lease=0.0), 0)
    bench.claim(run, path, engine)
    bench.sweep()


@pytest.mark.parametrize("lose", [loses, dies], ids=["a child is lost", "a worker is buried"])
def test_a_step_that_lost_its_worker_three_times_is_set_aside_and_its_run_paused(
    bench: Bench, lose: Any
) -> None:
    # Given a step that has lost its worker twice, beside one that is ready
    run = bench.submit(workflow("w", fan_out(A, B)))
    lose(bench, run, "0/a")
    lose(bench, run, "0/a")
    assert bench.view(run).state == "running"

    # When that happens a third time
    bench.messages = []
    lose(bench, run, "0/a")

    # Then nothing is sent, a dead letter says why, and the run is paused with the reason
    assert bench.messages == []
    assert bench.states(run) == {"0": "open", "0/a": "dead", "0/b": "ready"}
    ((letter, queue, reason, message),) = bench.query("SELECT id, queue, reason, message FROM dead_letters")
    assert (queue, reason) == ("agent.a", "it lost its worker 3 times")
    assert message == {"workflow": "w", "agent": "a", "step": "0/a", "attempt": 3, "losses": 3}
    ((state, why),) = bench.query("SELECT state, pause_reason FROM runs")
    assert (state, why) == ("paused", f"step 0/a lost its worker 3 times; see: baton dead show {letter}")
    assert bench.kinds(run, "0/a") == ["step.started", "step.lost"] * 3 + ["step.dead"]
    assert bench.events(run)[-1].kind == "run.paused"
    assert isinstance(bench.engine.claim(Pointer(run, "0/b")), Refused)
    assert bench.query("SELECT state, count(*) FROM attempts GROUP BY 1") == [("lost", 3)]


def test_a_step_that_is_handed_back_has_lost_nobody(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    for _ in range(5):
        bench.claim(run, "0")
        (ready,) = bench.engine.hand_back()
        assert ready.path == "0"
    claimed = bench.claim(run, "0")
    assert bench.engine.release(Pointer(run, "0"), claimed.attempt, lost=False)[0].path == "0"

    assert [(step.state, step.losses) for step in bench.view(run).steps] == [("ready", 0)]
    assert bench.kinds(run, "0") == ["step.started", "step.released"] * 6
    assert bench.query("SELECT state, count(*) FROM attempts GROUP BY 1") == [("released", 6)]


def test_only_the_attempt_that_is_named_is_taken_back(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    loses(bench, run, "0")
    claimed = bench.claim(run, "0")

    assert bench.engine.release(Pointer(run, "0"), attempt=1) == []
    assert Engine(bench.pool, WorkerId(uuid4(), "other")).release(Pointer(run, "0")) == []

    assert bench.finish(claimed).accepted
    assert bench.engine.release(Pointer(run, "0")) == []


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets `BATON_LOSS_LIMIT`."""

    def is_set(value: int) -> None:
        monkeypatch.setenv("BATON_LOSS_LIMIT", str(value))
        settings.cache_clear()

    yield is_set
    monkeypatch.undo()
    settings.cache_clear()


def test_the_limit_is_a_setting(bench: Bench, limit: Any) -> None:
    limit(1)
    run = bench.submit(workflow("w", A))
    loses(bench, run, "0")
    assert bench.states(run) == {"0": "dead"}


def test_sweeps_that_bury_the_same_workers_count_each_loss_once(bench: Bench) -> None:
    # Given steps of many runs, in the name of workers that are gone
    runs = [bench.submit(workflow("w", A)) for _ in range(40)]
    for run in runs[:20]:
        loses(bench, run, "0", 2)
    for run in runs:
        bench.claim(run, "0", Engine(bench.pool, WorkerId(uuid4(), "gone")))
    together = threading.Barrier(4)

    def sweep(_: int) -> int:
        together.wait()
        return len(bench.engine.free_of_the_dead(grace=0, most=1_000))

    # When several sweep at the same time
    with ThreadPoolExecutor(4) as threads:
        freed = sum(threads.map(sweep, range(4)))

    # Then each is freed once, or set aside once
    assert freed == 20
    assert bench.query("SELECT losses, state, count(*) FROM steps GROUP BY 1, 2 ORDER BY 1") == [
        (1, "ready", 20),
        (3, "dead", 20),
    ]
    assert bench.query("SELECT count(*) FROM dead_letters") == [(20,)]
    assert bench.query("SELECT count(*) FROM events WHERE kind = 'run.paused'") == [(20,)]


def test_a_run_with_a_step_that_was_set_aside_is_not_simply_resumed(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    loses(bench, run, "0", 3)

    with pytest.raises(Conflict, match="has a step that was set aside, 0: retry or drop that one") as refused:
        bench.engine.resume(run)

    assert refused.value.next_step.startswith("baton dead retry ")


def test_a_cancelled_run_leaves_no_open_letter(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    loses(bench, run, "0", 3)

    bench.engine.cancel(run)

    assert bench.query("SELECT settled FROM dead_letters") == [("dropped",)]
    assert bench.states(run) == {"0": "cancelled"}


def test_a_second_step_that_is_set_aside_leaves_the_time_of_a_paused_run_alone(bench: Bench) -> None:
    # Given a run that is paused because of one step, while another one runs
    run = bench.submit(workflow("w", fan_out(A, B, within=60)))
    for path in ("0/a", "0/b"):
        loses(bench, run, path, settings().loss_limit - 1)
    held = bench.claim(run, "0/b")
    loses(bench, run, "0/a")
    assert bench.view(run).state == "paused"

    # When that one is set aside too, and both are retried
    bench.engine.release(Pointer(run, held.path))
    letters = bench.query("SELECT id, path FROM dead_letters ORDER BY id")
    for letter, path in letters:
        bench.engine.retry_step(letter, Pointer(run, path))

    # Then the fan-out has the deadline that it had
    assert [path for _, path in letters] == ["0/a", "0/b"]
    ((left,),) = bench.query("SELECT extract(epoch FROM due_at - now()) FROM steps WHERE path = '0'")
    assert 0 < left <= 60
