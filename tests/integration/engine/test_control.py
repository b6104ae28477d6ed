"""Claims, fences, cancel, resume, retries, delays, deadlines and idempotency: what control promises, it keeps."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine import Claimed, Engine, Finished, Pointer, Refused, Submission, WorkerId
from orchestrator.engine.values import WorkerBeat
from orchestrator.identify import new_id
from orchestrator.store.connect import Pool
from schemas.errors import Conflict, IdempotencyConflict, NotFound
from schemas.outcomes import Done
from schemas.usage import Usage
from tests.integration.engine.bench import Bench, Boom, done, failed, named

A, B, C = (named(name) for name in "abc")


def losing(*names: str) -> Any:
    def act(agent: str, value: Any, claimed: Claimed) -> Any:
        if agent in names:
            raise Boom(f"{agent} gave up")
        return agent

    return act


# --- claims and their fence -------------------------------------------------------------------------------


def test_of_many_who_claim_a_step_one_gets_it(bench: Bench) -> None:
    engines = [Engine(bench.pool, WorkerId(uuid4(), f"w{n}")) for n in range(4)]
    definition = workflow("w", A)
    together = threading.Barrier(8)

    def claim(number: int) -> Claimed | Refused:
        together.wait()
        return engines[number % 4].claim(Pointer(run, "0"))

    with ThreadPoolExecutor(8) as threads:
        for _ in range(10):
            run = bench.submit(definition)
            answers = list(threads.map(claim, range(8)))
            assert [type(answer) for answer in answers].count(Claimed) == 1


def test_a_step_claimed_twice_in_one_batch_is_claimed_once(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))

    first, second = bench.engine.claim._execute([Pointer(run, "0"), Pointer(run, "0")])

    assert isinstance(first, Claimed)
    assert isinstance(second, Refused)


def test_the_outcome_of_an_attempt_that_lost_its_step_is_refused(bench: Bench) -> None:
    # Given a step whose first worker was lost and whose second one runs it
    run = bench.submit(workflow("w", A >> B))
    old = bench.claim(run, "0")
    bench.engine.release(Pointer(run, "0"))
    new = bench.claim(run, "0")

    # When both finish, then only the second one is heard
    assert not bench.finish(old, "old").accepted
    assert bench.finish(new, "new").accepted
    assert not bench.finish(old, "old").accepted
    assert bench.claim(run, "1").input == '"new"'
    assert bench.kinds(run, "0") == ["step.started", "step.lost", "step.started", "step.done"]


def test_an_outcome_is_accepted_once_also_within_one_batch(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    claimed = bench.claim(run, "0")

    answers = bench.engine.record._execute([done(claimed, 1), done(claimed, 2)])

    assert [answer.accepted for answer in answers] == [True, False]
    assert not bench.finish(claimed, 3).accepted
    assert bench.claim(run, "1").input in ("1", "2")
    assert [one.path for answer in answers for one in answer.ready] == ["1"]


def test_what_cannot_be_claimed_is_refused_with_the_reason(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    claimed = bench.claim(run, "0")

    def reason(path: str, of: UUID = run) -> str:
        answer = bench.engine.claim(Pointer(of, path))
        assert isinstance(answer, Refused)
        return answer.reason

    assert reason("0") == "the step is running, attempt 1"
    assert reason("1") == "there is no such step"
    assert reason("no/such/step") == "there is no such step"
    assert reason("0", uuid4()) == "there is no such step"
    bench.finish(claimed)
    assert reason("0") == "the step is done, attempt 1"
    bench.drain()
    assert reason("0") == "the run is completed"


def test_a_repeated_message_of_a_step_whose_successor_nobody_has_goes_on_with_the_chain(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    bench.finish(bench.claim(run, "0"))

    answer = bench.engine.claim(Pointer(run, "0"))
    assert isinstance(answer, Refused)
    assert answer.done

    bench.claim(run, "1")
    answer = bench.engine.claim(Pointer(run, "0"))
    assert isinstance(answer, Refused)
    assert not answer.done


def test_steps_of_a_dead_worker_go_to_others(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    dead = bench.engines[0].worker
    assert dead is not None
    bench.engine.beat(WorkerBeat(dead, ("agent.a",), 1, "threads", lease=60), 0)
    bench.claim(run, "0")
    bench.messages = []
    assert bench.sweep() == 0
    bench.query("UPDATE workers SET lease_until = clock_timestamp() - interval '1 second'")

    bench.engines.insert(0, Engine(bench.pool, WorkerId(uuid4(), "alive")))
    bench.sweep()

    bench.drain()
    assert bench.end(run).state == "completed"
    (step,) = bench.view(run).steps
    assert (step.attempt, step.losses) == (2, 1)


# --- one commit -------------------------------------------------------------------------------------------


class DiskWaits:
    """How often a session of the server has waited for its log to reach the disk, counted by the server."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._before = self._now()

    def __int__(self) -> int:
        return self._now() - self._before

    def _now(self) -> int:
        with self._pool.connection() as conn:
            conn.execute("SELECT pg_stat_force_next_flush()")
            row = conn.execute(
                "SELECT sum(fsyncs) FROM pg_stat_get_backend_io(pg_backend_pid()) WHERE object = 'wal'"
            ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize(
    ("body", "value", "path"),
    [
        (A >> B, None, "0"),
        (A, None, "0"),
        (fan_out(A, B, join=C), None, "0/b"),
        (A >> each(B, join=C), [1, 2, 3], "0"),
    ],
    ids=["next stage", "end of the run", "last branch and join", "an each opens"],
)
def test_a_step_waits_once_for_the_disk(migrated: str, body: Any, value: Any, path: str) -> None:
    # Given a step that is ready, the last one of its fan-out if it has one
    bench = Bench(migrated, size=1)
    run = bench.submit(workflow("w", body), value)
    if path == "0/b":
        bench.finish(bench.claim(run, "0/a"))
    waits = DiskWaits(bench.pool)

    # When it is claimed, then nothing waits for the disk
    claimed = bench.claim(run, path)
    assert int(waits) == 0

    # When its outcome is recorded, then that waits once
    assert bench.finish(claimed, value).accepted
    assert int(waits) == 1
    bench.close()


def test_steps_that_end_together_share_one_wait_for_the_disk(migrated: str) -> None:
    bench = Bench(migrated, size=1)
    runs = [bench.submit(workflow("w", each(A, join=B) >> C), list(range(4))) for _ in range(5)]
    claims = [bench.claim(run, f"0/{n}") for run in runs for n in range(4)]
    waits = DiskWaits(bench.pool)

    answers = bench.engine.record._execute([done(claimed) for claimed in claims])

    assert int(waits) == 1
    assert [one.path for answer in answers for one in answer.ready] == ["0/join"] * 5
    bench.close()


# --- what cannot be stored --------------------------------------------------------------------------------


def test_an_outcome_that_cannot_be_stored_fails_alone(bench: Bench) -> None:
    # Given three steps that end in one batch, one of them with what Postgres cannot store
    runs = [bench.submit(workflow("w", A >> B)) for _ in range(3)]
    batch = [done(bench.claim(run, "0"), number) for number, run in enumerate(runs)]
    batch[1] = Finished(batch[1].run_id, "0", 1, Done(), json.dumps("a\0b"), ({"note": "c\0d"},))

    # When they are recorded
    answers = bench.engine.record._execute(batch)

    # Then its neighbours are done, and its own failure names the reason
    assert [answer.accepted for answer in answers] == [True, True, True]
    assert [bench.states(run)["0"] for run in runs] == ["done", "failed", "done"]
    error = bench.end(runs[1]).error
    assert error is not None
    assert "NUL" in error.message


def test_usage_of_every_attempt_is_kept(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    first = bench.claim(run, "0")
    outcome = failed(first, retry_in=0.0).outcome.model_copy(update={"usage": Usage(tokens=5)})
    bench.engine.record(Finished(run, "0", 1, outcome))
    second = bench.claim(run, "0")
    bench.engine.record(Finished(run, "0", 2, Done(usage=Usage(tokens=7)), "1"))

    assert second.retries == 1
    rows = bench.query("SELECT attempt, state, usage ->> 'tokens' FROM attempts ORDER BY attempt")
    assert rows == [(1, "failed", "5"), (2, "done", "7")]


# --- retries ----------------------------------------------------------------------------------------------


def test_a_retry_waits_for_its_time(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    bench.fail(bench.claim(run, "0"), retry_in=3600)

    answer = bench.engine.claim(Pointer(run, "0"))

    assert isinstance(answer, Refused)
    assert answer.due_in == pytest.approx(3600, abs=30)
    assert bench.states(run) == {"0": "ready"}
    assert bench.kinds(run, "0") == ["step.started", "step.retrying"]
    assert bench.events(run)[-1].data["error"] == "boom"


# --- cancel -----------------------------------------------------------------------------------------------


def test_after_a_cancel_nothing_starts_and_nothing_is_heard(bench: Bench) -> None:
    # Given a run with a step that runs, one that is ready and one that waits for its turn
    run = bench.submit(workflow("w", each(A, parallel=2) >> B), [1, 2, 3])
    running = bench.claim(run, "0/0")

    # When it is cancelled
    bench.engine.cancel(run, "changed my mind")

    # Then the ready one is refused, the running one is not heard and told to stop
    answer = bench.engine.claim(Pointer(run, "0/1"))
    assert isinstance(answer, Refused)
    assert answer.reason == "the run is cancelled"
    assert not bench.finish(running).accepted
    beat = WorkerBeat(bench.engine.worker, (), 1, "threads", lease=4)  # type: ignore[arg-type]
    assert bench.engine.beat(beat, 0) == []
    assert set(bench.states(run).values()) == {"cancelled"}
    assert bench.sweep() == 0
    assert bench.events(run)[-1].data == {"reason": "changed my mind", "steps": 4}


def test_an_ended_run_cannot_be_cancelled(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    bench.drain()

    with pytest.raises(Conflict, match="is completed already"):
        bench.engine.cancel(run)
    with pytest.raises(NotFound, match="there is no run"):
        bench.engine.cancel(uuid4())


def test_a_cancel_that_races_with_a_claim_and_an_outcome_wins_or_loses_as_a_whole(bench: Bench) -> None:
    definition = workflow("w", A >> B)
    other = Engine(bench.pool)
    together = threading.Barrier(2)

    def cancel(run: UUID) -> None:
        together.wait()
        other.cancel(run)

    with ThreadPoolExecutor(1) as threads:
        for _ in range(30):
            run = bench.submit(definition)
            claimed = bench.claim(run, "0")
            cancelling = threads.submit(cancel, run)
            together.wait()
            accepted = bench.finish(claimed).accepted
            answer = bench.engine.claim(Pointer(run, "1"))
            cancelling.result()
            # What was accepted stays done; nothing runs on after the cancel
            assert bench.states(run)["0"] == ("done" if accepted else "cancelled")
            if isinstance(answer, Claimed):
                assert not bench.finish(answer).accepted
            assert "running" not in bench.states(run).values()
            assert bench.end(run).state == "cancelled"


# --- resume -----------------------------------------------------------------------------------------------


def test_a_resumed_run_executes_only_what_was_not_done(bench: Bench) -> None:
    # Given a run that failed at the second of three stages, after a fan-out with a tolerated gap
    body = fan_out(A, B, require="any") >> named("middle") >> C
    run = bench.submit(workflow("w", body))
    bench.drain(losing("b", "middle"))
    assert bench.end(run).state == "failed"

    # When it is resumed and nothing fails any more
    bench.messages = bench.engine.resume(run)
    bench.drain(losing())

    # Then the stages before are not executed again, and the gap stays a gap
    assert bench.end(run).state == "completed"
    executed = [path for (_, path), times in bench.executed.items() for _ in range(times)]
    assert sorted(executed) == ["0/a", "0/b", "1", "1", "2"]
    assert bench.states(run)["0/b"] == "failed"
    assert bench.view(run).degraded
    assert bench.kinds(run)[-8:] == [
        "run.resumed",
        "step.opened",
        "step.opened",
        "step.started",
        "step.done",
        "step.started",
        "step.done",
        "run.completed",
    ]


def test_the_branches_of_a_failed_fan_out_are_resumed_without_the_done_ones(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(A, B, c=C >> named("d"), join=named("join"))))
    bench.drain(losing("b", "d"))

    bench.messages = bench.engine.resume(run)
    assert sorted(message.path for message in bench.messages) == ["0/b", "0/c/1"]
    bench.drain(losing())

    assert bench.end(run).state == "completed"
    assert bench.executed[run, "0/a"] == 1
    assert bench.executed[run, "0/c/0"] == 1


def test_a_run_can_be_resumed_again_and_again(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    for _ in range(3):
        bench.drain(losing("b"))
        assert bench.end(run).state == "failed"
        bench.messages = bench.engine.resume(run)
    bench.drain(losing())

    assert bench.end(run).state == "completed"
    assert bench.executed[run, "0"] == 1


def test_a_gap_that_a_join_accepted_stays_one_when_the_join_itself_failed(bench: Bench) -> None:
    # Given a fan-out with a tolerated gap, a deadline, and a join that failed
    run = bench.submit(workflow("w", fan_out(A, B, join=C, require="any", within=3600)))
    bench.drain(losing("b", "c"))
    assert bench.end(run).state == "failed"

    # When the run is resumed, then only the join runs, and no deadline takes it away
    bench.messages = bench.engine.resume(run)
    assert [message.path for message in bench.messages] == ["0/join"]
    assert bench.query("SELECT path FROM steps WHERE due_at IS NOT NULL") == []
    bench.drain(losing())
    assert bench.end(run).state == "completed"
    assert bench.states(run) == {"0": "done", "0/a": "done", "0/b": "failed", "0/join": "done"}


def test_the_cap_of_a_fan_out_holds_whatever_plan_the_database_makes(migrated: str) -> None:
    # Given a database that joins by loops, as it may where its statistics say that tables are small
    with psycopg.connect(migrated, autocommit=True) as conn:
        for way in ("hashjoin", "mergejoin", "hashagg", "sort", "material", "memoize"):
            conn.execute(f"ALTER DATABASE {conn.info.dbname} SET enable_{way} = off")
    bench = Bench(migrated)
    run = bench.submit(workflow("w", each(A, parallel=2)), list(range(6)))
    assert len(bench.messages) == 2

    # When branches end, and when what failed begins again
    for path in ("0/0", "0/1"):
        bench.fail(bench.claim(run, path))
        assert list(bench.states(run).values()).count("ready") <= 2
    bench.drain(losing("a"))
    bench.messages += bench.engine.resume(run)

    assert list(bench.states(run).values()).count("ready") == 2
    bench.close()


@pytest.mark.parametrize("parallel", [1, 2])
def test_branches_that_failed_half_way_are_resumed_no_more_at_a_time_than_allowed(
    bench: Bench, parallel: int
) -> None:
    # Given branches of several stages, and of several branches, that all failed after their first part
    part = A >> fan_out(A, B, parallel=1)
    run = bench.submit(workflow("w", each(part, parallel=parallel)), list(range(5)))
    bench.drain(losing("b"))
    assert bench.end(run).state == "failed"

    # When the run is resumed, then they go on as many at a time as before, from where they were, and end
    bench.messages = bench.engine.resume(run)
    bench.executed.clear()
    while bench.messages:
        assert len(bench.messages) <= parallel
        bench.finish(bench.claim(run, bench.messages.pop(0).path))
    assert bench.end(run).state == "completed"
    assert sorted(path for _, path in bench.executed) == [f"0/{n}/1/b" for n in range(5)]


def expired(bench: Bench, run: UUID) -> None:
    """Let the time of a run run out."""
    bench.query("UPDATE runs SET due_at = clock_timestamp() - interval '1 second' WHERE id = %s", run)
    bench.engine.expire()


@pytest.mark.parametrize(
    "body",
    [
        each(A, parallel=1),
        each(A >> B, parallel=1),
        each(fan_out(A, B), parallel=1, join=C),
        each(each(A), parallel=1),
    ],
    ids=["leaves", "pipelines", "fan-outs", "each"],
)
def test_a_run_that_ran_out_of_time_is_resumed_where_it_was(bench: Bench, body: Any) -> None:
    # Given a run with a time limit whose branches come one at a time, stopped after the first
    run = bench.submit(workflow("w", body, timeout=60), [[1, 2], [3], []])
    bench.finish(bench.claim(run, bench.messages.pop(0).path))
    expired(bench, run)
    end = bench.end(run)
    assert end.error is not None
    assert end.error.message == "the run took longer than its timeout of 60 s"

    # When it is resumed, then it goes on one at a time, and ends
    bench.messages = bench.engine.resume(run)
    while bench.messages:
        assert (
            bench.query("SELECT count(*) FROM steps WHERE parent = '0' AND state IN ('ready', 'open')")[0][0]
            <= 1
        )
        bench.finish(bench.claim(run, bench.messages.pop(0).path), 1)
    assert bench.end(run).state == "completed"
    assert set(bench.executed.values()) == {1}


@pytest.mark.parametrize(
    ("body", "value", "path"),
    [(each(A, join=B), [1, 2], "0"), (each(A) >> each(A, join=B), [1, 2], "1")],
    ids=["of the run's input", "of results"],
)
def test_a_fan_out_whose_branches_had_all_ended_when_time_ran_out_is_joined_on_resume(
    bench: Bench, body: Any, value: Any, path: str
) -> None:
    # Given an each whose last item ended, but nobody has opened its join yet, when the run's time runs out
    run = bench.submit(workflow("w", body, timeout=60), value)
    with bench.pool.connection() as other, other.transaction(), pytest.MonkeyPatch.context() as patched:
        other.execute("SELECT pg_advisory_xact_lock(7002, hashtext(%s))", [f"{run}{path}"])
        patched.setattr(Engine, "settle", lambda *_: [])
        bench.drain()
    expired(bench, run)

    # When the run is resumed, then it is joined
    bench.messages = bench.engine.resume(run)
    assert [message.path for message in bench.messages] == [f"{path}/join"]
    bench.drain()
    assert bench.end(run).state == "completed"


def test_a_step_that_could_not_open_fails_again_when_its_run_is_resumed(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> each(B)))
    bench.drain(lambda *_: "no list")
    assert bench.end(run).state == "failed"

    bench.messages = bench.engine.resume(run)
    bench.drain()

    assert bench.end(run).state == "failed"


def test_a_run_that_goes_on_or_has_ended_cannot_be_resumed(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    with pytest.raises(Conflict, match="is queued: only a paused or failed run can be resumed"):
        bench.engine.resume(run)
    bench.engine.cancel(run)
    with pytest.raises(Conflict, match="is cancelled: only a paused or failed run"):
        bench.engine.resume(run)
    with pytest.raises(NotFound):
        bench.engine.resume(uuid4())


# --- time -------------------------------------------------------------------------------------------------


def test_a_run_without_time_left_fails_and_what_ran_is_not_heard(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B, timeout=60))
    running = bench.claim(run, "0")
    assert running.run_left == pytest.approx(60, abs=20)

    expired(bench, run)

    assert bench.end(run).state == "failed"
    assert not bench.finish(running).accepted
    assert bench.engine.expire() == []


@pytest.mark.parametrize(
    "body",
    [A, A >> B, fan_out(A, B), each(A), each(A >> B), fan_out(A, b=each(B)), each(each(A))],
    ids=["leaf", "pipeline", "fan-out", "each", "each of pipelines", "each in a fan-out", "each in each"],
)
def test_a_delayed_run_starts_later_whatever_its_first_stage(bench: Bench, body: Any) -> None:
    # Given a run that is to start in an hour
    run = bench.submit(workflow("w", body, timeout=60), [[1, 2]], delay=3600)

    # Then nothing is sent, and nothing can be claimed
    assert bench.messages == []
    assert bench.sweep() == bench.fire() == 0
    ready = [path for path, state in bench.states(run).items() if state == "ready"]
    for path in ready:
        answer = bench.engine.claim(Pointer(run, path))
        assert isinstance(answer, Refused)
        assert answer.due_in == pytest.approx(3600, abs=30)

    # When the hour has passed, then the timers send it, and not recovery
    bench.query(
        "UPDATE steps SET due_at = due_at - interval '2 hours', ready_at = ready_at - interval '2 hours'"
    )
    assert bench.sweep() == 0
    bench.fire()
    assert sorted({message.path for message in bench.messages}) == sorted(ready)
    bench.drain()
    assert bench.end(run).state == "completed"


# --- idempotency ------------------------------------------------------------------------------------------


def test_a_repeated_submission_is_answered_with_the_first_run(bench: Bench) -> None:
    definition = workflow("w", A)
    first = bench.submit(definition, {"x": 1}, idempotency_key="k")
    assert len(bench.messages) == 1

    again = bench.submit(definition, {"x": 1}, idempotency_key="k")

    assert again == first
    assert len(bench.messages) == 1
    assert bench.query("SELECT count(*) FROM runs") == [(1,)]


def test_a_key_belongs_to_its_tenant(bench: Bench) -> None:
    definition = workflow("w", A)
    runs = {bench.submit(definition, 1, idempotency_key="k", tenant=tenant) for tenant in ("x", "y", "x")}
    assert len(runs) == 2


def test_a_key_with_another_input_is_refused_and_nothing_is_created(bench: Bench) -> None:
    plan = compile_workflow(workflow("w", A))
    bench.engine.submit(plan, [Submission(new_id(), "1", idempotency_key="k")])

    with pytest.raises(IdempotencyConflict, match="idempotency key 'k' belongs to run"):
        bench.engine.submit(plan, [Submission(new_id(), "7"), Submission(new_id(), "2", idempotency_key="k")])

    assert bench.query("SELECT count(*) FROM runs") == [(1,)]


def test_submissions_with_one_key_at_the_same_moment_make_one_run(bench: Bench) -> None:
    plan = compile_workflow(workflow("w", A))
    together = threading.Barrier(8)

    def submit(key: str) -> tuple[UUID, bool]:
        engine = Engine(bench.pool)
        together.wait()
        return engine.submit(plan, [Submission(new_id(), "1", idempotency_key=key)])[0][0]

    with ThreadPoolExecutor(8) as threads:
        for number in range(10):
            answers = list(threads.map(submit, [f"k{number}"] * 8))
            assert len({run for run, _ in answers}) == 1
            assert [created for _, created in answers].count(True) == 1
    assert bench.query("SELECT count(*) FROM runs") == [(10,)]


def test_bulk_submissions_with_the_same_keys_in_another_order_do_not_deadlock(bench: Bench) -> None:
    plan = compile_workflow(workflow("w", A))
    together = threading.Barrier(4)

    def submit(keys: list[str]) -> set[UUID]:
        engine = Engine(bench.pool)
        together.wait()
        submissions = [Submission(new_id(), "1", idempotency_key=key) for key in keys]
        return {run for run, _ in engine.submit(plan, submissions)[0]}

    with ThreadPoolExecutor(4) as threads:
        for number in range(8):
            keys = [f"{number}-{n}" for n in range(300)]
            answers = list(threads.map(submit, [keys, keys[::-1], keys, keys[::-1]]))
            assert answers == [answers[0]] * 4


def test_a_key_used_twice_in_one_call_makes_one_run(bench: Bench) -> None:
    plan = compile_workflow(workflow("w", A))

    answers, ready = bench.engine.submit(
        plan, [Submission(new_id(), "1", idempotency_key="k") for _ in range(3)]
    )

    assert len({run for run, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1
    assert len(ready) == 1
    assert bench.query("SELECT count(*) FROM runs") == [(1,)]
