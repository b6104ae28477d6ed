"""Pause and resume: nothing starts in between, nothing that ran is lost, and no time passes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine import Claimed, Engine, Pointer, Refused, WorkerId
from orchestrator.store.connect import Pool
from schemas.errors import Conflict, NotFound
from tests.integration.engine.bench import Bench, done, named

A, B, C = (named(name) for name in "abc")


def refusal(bench: Bench, run: UUID, path: str) -> str:
    answer = bench.engine.claim(Pointer(run, path))
    assert isinstance(answer, Refused)
    return answer.reason


def passes(bench: Bench, seconds: float) -> None:
    """Let time pass for everything in the database."""
    for table, columns in (
        ("runs", ("due_at", "paused_at", "started_at", "created_at")),
        ("steps", ("due_at", "ready_at", "started_at")),
    ):
        earlier = ", ".join(f"{name} = {name} - make_interval(secs => {seconds})" for name in columns)
        bench.query(f"UPDATE {table} SET {earlier}")  # noqa: S608  both are written above


def resume(bench: Bench, run: UUID) -> list[str]:
    """Resume a run; the paths of what is sent, which is under way now."""
    bench.messages = bench.engine.resume(run)
    return [message.path for message in bench.messages]


# --- nothing starts ---------------------------------------------------------------------------------------


def test_a_paused_run_finishes_what_runs_and_starts_nothing(bench: Bench) -> None:
    # Given a run with a step that runs, one that is ready and one that waits for its turn
    run = bench.submit(workflow("w", each(A, parallel=2, join=C)), [1, 2, 3])
    running = bench.claim(run, "0/0")

    # When it is paused
    bench.engine.pause(run, "the provider is down")

    # Then what is ready is refused, what runs is heard, and what becomes ready is stored and not sent
    assert refusal(bench, run, "0/1") == "the run is paused"
    recorded = bench.finish(running, 1)
    assert recorded.accepted
    assert recorded.ready == ()
    assert bench.states(run) == {"0": "open", "0/0": "done", "0/1": "ready", "0/2": "ready"}
    assert refusal(bench, run, "0/2") == "the run is paused"

    assert [(pool.ready, pool.running) for pool in bench.views.pools()] == []

    # and recovery, which looks everywhere for something to send, finds nothing, however long it takes
    bench.messages = []
    passes(bench, 3600)
    assert bench.sweep() == 0

    # When it is resumed, all of it is sent at once, and ends
    assert sorted(resume(bench, run)) == ["0/1", "0/2"]
    bench.drain()
    assert bench.end(run).state == "completed"
    assert set(bench.executed.values()) == {1}
    assert [kind for kind in bench.kinds(run) if kind.startswith("run.")] == [
        "run.submitted",
        "run.started",
        "run.paused",
        "run.resumed",
        "run.completed",
    ]


@pytest.mark.parametrize(
    ("body", "path", "held"),
    [
        (A >> B, "0", ["1"]),
        (A >> fan_out(B, C), "0", ["1/b", "1/c"]),
        (A >> each(B), "0", ["1/0", "1/1"]),
        (A >> each(B >> C), "0", ["1/0/0", "1/1/0"]),
        (A >> each(B >> C, parallel=1), "0", ["1/0/0"]),
        (fan_out(A, join=B), "0/a", ["0/join"]),
        (fan_out(A, b=fan_out(B, C), parallel=1), "0/a", ["0/b/b", "0/b/c"]),
        (fan_out(A, b=each(B), parallel=1) >> C, "0/a", ["0/b/0", "0/b/1"]),
    ],
    ids=["stage", "fan-out", "each", "each of pipelines", "window", "join", "next branch", "next each"],
)
def test_what_becomes_ready_in_a_paused_run_is_held_whatever_it_is(
    bench: Bench, body: Any, path: str, held: list[str]
) -> None:
    run = bench.submit(workflow("w", body), [1, 2])
    claimed = bench.claim(run, path)
    bench.engine.pause(run)

    assert bench.finish(claimed, [1, 2]).ready == ()

    assert unheld(bench) == []
    ready = [one for one, state in bench.states(run).items() if state == "ready"]
    assert sorted(ready) == held
    assert sorted(resume(bench, run)) == held
    bench.drain()
    assert bench.end(run).state == "completed"


def test_what_comes_back_to_a_paused_run_is_held(bench: Bench) -> None:
    # Given two steps that run in a run that is then paused
    run = bench.submit(workflow("w", fan_out(A, B, C)))
    failing, lost, left = bench.claim(run, "0/a"), bench.claim(run, "0/b"), bench.claim(run, "0/c")
    bench.engine.pause(run)

    # When one fails and is to be tried again, one loses its worker and one is handed back
    bench.fail(failing, retry_in=0.0)
    assert bench.engine.release(Pointer(run, lost.path)) == []
    assert bench.engine.hand_back() == []
    bench.messages = []

    # Then none of them starts before the run is resumed
    assert {refusal(bench, run, f"0/{name}") for name in "abc"} == {"the run is paused"}
    assert unheld(bench) == []
    assert bench.sweep() == 0
    assert sorted(resume(bench, run)) == ["0/a", "0/b", "0/c"]
    assert not bench.finish(left).accepted
    bench.drain()
    assert bench.end(run).state == "completed"


def unheld(bench: Bench) -> list[Any]:
    """Steps that could start although their run is paused: there must be none, ever."""
    return bench.query(
        "SELECT s.path FROM steps s JOIN runs r ON r.id = s.run_id"
        " WHERE r.state = 'paused' AND s.state = 'ready' AND s.ready_at IS NOT NULL"
    )


def test_a_run_that_never_started_is_queued_again(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    bench.engine.pause(run)

    bench.engine.resume(run)

    assert bench.view(run).state == "queued"
    bench.drain()
    assert bench.end(run).state == "completed"


def test_a_paused_run_may_end_with_what_was_running(bench: Bench) -> None:
    runs = [bench.submit(workflow("w", A)) for _ in range(2)]
    done_, failed_ = (bench.claim(run, "0") for run in runs)
    for run in runs:
        bench.engine.pause(run)

    bench.finish(done_)
    bench.fail(failed_)

    assert [bench.end(run).state for run in runs] == ["completed", "failed"]


def test_a_paused_run_can_be_cancelled(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    bench.engine.pause(run)

    bench.engine.cancel(run)

    assert bench.end(run).state == "cancelled"


def test_a_run_is_paused_and_resumed_once(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    bench.engine.pause(run)
    with pytest.raises(Conflict, match="is paused: only a run that is going on can be paused"):
        bench.engine.pause(run)
    bench.engine.resume(run)
    with pytest.raises(Conflict, match="is queued: only a paused or failed run"):
        bench.engine.resume(run)
    bench.drain()
    with pytest.raises(Conflict, match="is completed: only a run that is going on"):
        bench.engine.pause(run)
    with pytest.raises(NotFound):
        bench.engine.pause(uuid4())


# --- no time passes ---------------------------------------------------------------------------------------


def left(bench: Bench, table: str) -> float:
    """Seconds until the only deadline there is."""
    ((seconds,),) = bench.query(
        f"SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM {table}"  # noqa: S608
        " WHERE due_at IS NOT NULL"
    )
    return float(seconds)


@pytest.mark.parametrize("table", ["runs", "steps"])
def test_deadlines_stand_still_while_a_run_is_paused(bench: Bench, table: str) -> None:
    # Given a run of which a quarter of its minute is over when it is paused for an hour
    limits: dict[str, Any] = {"timeout": 60} if table == "runs" else {"timeout": None}
    body = A if table == "runs" else fan_out(A, within=60, require="any")
    run = bench.submit(workflow("w", body, **limits))
    if table == "steps":
        bench.query("UPDATE runs SET due_at = NULL")
    passes(bench, 15)
    bench.engine.pause(run)
    passes(bench, 3600)

    # Then nothing expires meanwhile, and afterwards there is as much time left as before
    assert bench.engine.expire() == []
    assert bench.view(run).state == "paused"
    bench.engine.resume(run)
    assert left(bench, table) == pytest.approx(45, abs=15)
    assert bench.engine.expire() == []
    passes(bench, 61)
    bench.engine.expire()
    assert bench.end(run).state == "failed"


def test_a_fan_out_that_opened_during_a_pause_has_its_whole_time(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> fan_out(B, within=60)))
    claimed = bench.claim(run, "0")
    bench.query("UPDATE runs SET due_at = NULL")
    bench.engine.pause(run)
    passes(bench, 3600)
    bench.finish(claimed)
    passes(bench, 20)

    bench.engine.resume(run)

    assert left(bench, "steps") == pytest.approx(60, abs=15)


def test_what_became_due_during_a_pause_starts_with_the_resume(bench: Bench) -> None:
    # Given one run that is to start in a minute, and one in two hours; both are paused for an hour
    soon, later = (bench.submit(workflow("w", A), delay=delay) for delay in (60, 7200))
    for run in (soon, later):
        bench.engine.pause(run)
    passes(bench, 3600)

    # When they are resumed, then the first starts at once, and the other one when its time has come
    assert resume(bench, soon) == ["0"]
    assert resume(bench, later) == []
    assert bench.sweep() == bench.fire() == 0
    passes(bench, 3600)
    assert bench.fire() == 1
    bench.drain()
    assert bench.end(later).state == "completed"


# --- races ------------------------------------------------------------------------------------------------


def test_nothing_starts_after_a_pause_has_committed(migrated: str) -> None:
    """Claims in batches, outcomes, retries and losses race with pauses: each claim is before the pause or refused.

    A claim that began before the pause and commits after it would show as a step that runs although the state read
    right after the pause says that it is ready.
    """
    bench = Bench(migrated, size=12)
    width, rounds = 24, 8
    definition = workflow("w", each(A))
    started = threading.Barrier(5)

    def work(run: UUID, engine: Engine, order: int) -> None:
        pointers = [Pointer(run, f"0/{n}") for n in range(width)][::order]
        started.wait()
        for start in range(0, width, 4):
            for answer in engine.claim_all(pointers[start : start + 4]):
                if isinstance(answer, Claimed):
                    engine.record_all([done(answer)])

    def release(run: UUID, engine: Engine) -> None:
        started.wait()
        for _ in range(4):
            engine.hand_back()

    others = [Engine(bench.pool, WorkerId(uuid4(), f"w{n}")) for n in range(3)]
    before, after = 0, 0
    with ThreadPoolExecutor(4) as threads:
        for _ in range(rounds):
            run = bench.submit(definition, list(range(width)))
            orders = zip(others, (1, -1, 1), strict=True)
            racing = [threads.submit(work, run, engine, order) for engine, order in orders]
            racing.append(threads.submit(release, run, others[0]))
            started.wait()
            bench.engine.pause(run)
            at_once = attempts(bench.pool, run)
            assert unheld(bench) == []
            for one in racing:
                one.result()
            assert unheld(bench) == []
            assert attempts(bench.pool, run) == at_once, "a step started after the pause had committed"
            before, after = before + sum(at_once.values()), after + width - sum(at_once.values())
            # And afterwards the run goes on to its end
            bench.messages = bench.engine.resume(run)
            for engine in others:
                engine.hand_back()
            bench.drain()
            bench.sweep()
            bench.drain()
            assert bench.end(run).state == "completed"
    print(f"{before} claims before the pauses, {after} after them")
    assert before > 0
    assert after > 0
    bench.close()


def attempts(pool: Pool, run: UUID) -> dict[str, int]:
    with pool.connection() as conn:
        rows = conn.execute("SELECT path, attempt FROM steps WHERE run_id = %s AND kind = 'agent'", [run])
        return dict(rows.fetchall())
