"""Timers are rows: each fires once, when it is due, however many copies look, and a copy that dies loses none."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.clock import timers
from orchestrator.clock.timers import Timers
from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine import Engine, Pointer, Ready, Refused, Submission, WorkerId
from orchestrator.engine.run_locks import owning, sharing
from orchestrator.engine.values import WorkerBeat
from orchestrator.identify import new_id
from orchestrator.store import timer_queries
from orchestrator.store.connect import Pool
from tests.integration.engine.bench import Bench, named
from tests.support import eventually
from workers import Retry, agent
from workers.step import StepTask

A, B, C = (named(name) for name in "abc")


class Copy:
    """Timers with connections of their own, in a thread of their own; the broker is a list."""

    def __init__(self, url: str, sent: list[tuple[float, Ready]]) -> None:
        self.pool = Pool(url, size=2)
        self.timers = Timers(Engine(self.pool, WorkerId(uuid4(), "copy")), self)  # type: ignore[arg-type]
        self._sent = sent
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Copy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.pool.close()

    def send(self, ready: Sequence[Ready]) -> bool:
        now = time.time()
        self._sent += [(now, one) for one in ready]
        return True

    def _run(self) -> None:
        while not self._stopped.wait(self.timers.pause):
            self.timers.look()


def submit_many(bench: Bench, definition: Any, count: int, value: str = "1", **fields: Any) -> list[UUID]:
    submissions = [Submission(new_id(), value, **fields) for _ in range(count)]
    answers, _ = bench.engine.submit(compile_workflow(definition), submissions)
    return [run for run, _ in answers]


def make_due(bench: Bench, ago: float = 1.0) -> None:
    """Whatever waits for its time has waited long enough, `ago` seconds ago."""
    for table in ("steps", "runs"):
        bench.query(
            f"UPDATE {table} SET due_at = clock_timestamp() - make_interval(secs => %s)"  # noqa: S608
            " WHERE due_at IS NOT NULL",
            ago,
        )


# --- once, and in time ------------------------------------------------------------------------------------


def test_every_timer_fires_once_and_in_time_however_many_copies_race(bench: Bench) -> None:
    # Given delayed starts, retries, and deadlines of fan-outs and of runs, due over a second and a half
    each_kind = 60
    delayed = submit_many(bench, workflow("delayed", A), each_kind, delay=3600.0)
    retried = submit_many(bench, workflow("retried", A), each_kind)
    for run in retried:
        bench.fail(bench.claim(run, "0"), retry_in=3600)
    halves = fan_out(A, B, within=3600, require="any", join=C)
    joined = submit_many(bench, workflow("joined", halves), each_kind)
    for run in joined:
        bench.finish(bench.claim(run, "0/a"))
    limited = submit_many(bench, workflow("limited", A, timeout=3600), each_kind)
    for table in ("steps", "runs"):
        bench.query(
            f"UPDATE {table} SET due_at = clock_timestamp() + make_interval(secs => 0.3 + 1.5 * random())"  # noqa: S608
            " WHERE due_at IS NOT NULL"
        )
    due = {
        (run, path): at.timestamp()
        for run, path, at in bench.query(
            "SELECT run_id, path, due_at FROM steps WHERE due_at IS NOT NULL"
            " UNION ALL SELECT id, '', due_at FROM runs WHERE due_at IS NOT NULL"
        )
    }
    assert len(due) == 4 * each_kind

    # When four copies look
    sent: list[tuple[float, Ready]] = []
    with Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent):
        eventually(lambda: len(sent) >= 3 * each_kind, timeout=20)
        eventually(lambda: all(end is not None for end in map(bench.views.end, limited)), timeout=20)

    # Then each has fired once
    expected = [*((run, "0") for run in delayed + retried), *((run, "0/join") for run in joined)]
    assert Counter((one.run.id, one.path) for _, one in sent) == Counter(expected)
    failed = bench.query("SELECT run_id, at FROM events WHERE kind = 'run.failed'")
    assert Counter(run for run, _ in failed) == Counter(limited)
    skipped = bench.query("SELECT run_id, path FROM events WHERE kind = 'step.skipped'")
    assert len(skipped) == len(set(skipped)) == 2 * each_kind

    # And none was early, or as late as recovery would have been
    fired = {(one.run.id, one.path.removesuffix("/join")): at for at, one in sent}
    fired |= {(run, ""): at.timestamp() for run, at in failed}
    lateness = sorted(at - due[key] for key, at in fired.items())
    print(f"late by {lateness[len(lateness) // 2] * 1000:.0f} ms (p50), {lateness[-1] * 1000:.0f} ms (most)")
    assert lateness[0] >= 0
    assert lateness[-1] < 2.0


def test_a_retry_is_sent_when_it_is_due_and_not_before(bench: Bench) -> None:
    # Given a step that failed and is to be tried again in an hour
    run = bench.submit(workflow("w", A >> B))
    bench.messages.clear()
    bench.fail(bench.claim(run, "0"), retry_in=3600)

    # Then nobody sends it, and a message that comes early is refused and not sent again
    assert bench.fire() == bench.sweep() == 0
    assert isinstance(bench.engine.claim(Pointer(run, "0")), Refused)
    assert bench.messages == []

    # When the hour has passed, it is sent once, as the attempt that it will be
    make_due(bench)
    assert bench.fire() == 1
    assert bench.fire() == 0
    assert [(one.path, one.attempt) for one in bench.messages] == [("0", 2)]
    bench.drain()
    assert bench.end(run).state == "completed"
    assert bench.kinds(run, "0") == ["step.started", "step.retrying", "step.started", "step.done"]


def test_what_waits_for_its_time_does_not_count_as_waiting_for_a_worker(bench: Bench) -> None:
    bench.submit(workflow("w", A), delay=3600)
    bench.fail(bench.claim(bench.submit(workflow("w", A)), "0"), retry_in=3600)
    assert [pool.ready for pool in bench.views.pools()] == [0]

    make_due(bench)
    bench.fire()
    assert [pool.ready for pool in bench.views.pools()] == [2]


def test_a_step_whose_child_process_was_killed_for_its_time_waits_in_postgres_too(bench: Bench) -> None:
    # Given an attempt of an agent that is to be tried again an hour later
    @agent(name="a", retry=Retry(base=3600, cap=3600, jitter=False))
    def too_slow(number: int) -> int:
        return number

    class Task(StepTask):
        name = "agent.a"
        agent = too_slow
        process: Any = SimpleNamespace(engine=bench.engine, dispatcher=bench)

    run = bench.submit(workflow("w", A))
    bench.claim(run, "0")
    bench.messages.clear()

    # When its process is killed because it took too long
    Task().child_lost([str(run), "0", 1], timed_out=5.0)

    # Then nothing is sent until it is due
    assert bench.kinds(run, "0") == ["step.started", "step.retrying"]
    assert bench.fire() == 0
    assert bench.messages == []
    make_due(bench)
    assert bench.fire() == 1


def test_a_timer_whose_sender_died_before_it_could_send_is_found_by_recovery(bench: Bench) -> None:
    # Given a delayed start and a retry that are due
    delayed = bench.submit(workflow("w", A), delay=3600)
    retried = bench.submit(workflow("w", B))
    bench.fail(bench.claim(retried, "0"), retry_in=3600)
    bench.messages.clear()
    make_due(bench)

    # When a copy takes them, and dies between its commit and the broker
    class Died(BaseException):
        pass

    class Dying:
        def send(self, ready: Sequence[Ready]) -> bool:
            raise Died

    with pytest.raises(Died):
        Timers(bench.engine, Dying()).look()  # type: ignore[arg-type]
    assert bench.fire() == 0

    # Then recovery sends them as soon as they have lain for a while, not before
    heard(bench, "a", "b")
    assert bench.sweep(patience=3600) == 0
    bench.query("UPDATE steps SET ready_at = ready_at - interval '6 seconds'")
    assert bench.sweep(patience=5) == 2
    bench.drain()
    assert {bench.end(run).state for run in (delayed, retried)} == {"completed"}


def heard(bench: Bench, *agents: str) -> None:
    """A worker with room serves these agents, so recovery looks after their queues."""
    queues = tuple(f"agent.{agent}" for agent in agents)
    bench.engine.beat(WorkerBeat(bench.engine.me, queues, 4, "threads", lease=60), 0)


@pytest.mark.parametrize("attempts", [0, 1], ids=["delayed start", "retry"])
def test_recovery_leaves_timers_alone(bench: Bench, attempts: int) -> None:
    # Given a timer that is not due, a step of the same agent whose message was lost, and workers with room
    run = bench.submit(workflow("w", A), delay=None if attempts else 3600)
    if attempts:
        bench.fail(bench.claim(run, "0"), retry_in=3600)
    other = bench.submit(workflow("w", A))
    bench.messages.clear()
    heard(bench, "a")
    bench.query("UPDATE steps SET ready_at = ready_at - interval '1 hour'")

    # Then neither a look for what is stranded nor a broker that forgot sends it, though they send the other one
    assert bench.sweep() == 1
    bench.query("UPDATE steps SET ready_at = ready_at - interval '1 hour'")
    bench.messages.clear()
    bench.broker_has_forgotten = lambda: not bench.messages  # type: ignore[method-assign]
    bench.sweep(patience=7200)
    assert {one.run.id for one in bench.messages} == {other}


def test_a_copy_that_cannot_send_leaves_the_timers_to_the_others_for_a_while(bench: Bench) -> None:
    class Unreachable:
        def send(self, ready: Sequence[Ready]) -> bool:
            return False

    lame = Timers(bench.engine, Unreachable())  # type: ignore[arg-type]
    lame.look()
    assert lame.pause <= timers.TURN

    bench.submit(workflow("w", A), delay=3600)
    make_due(bench)
    lame.look()

    assert lame.pause == timers.AWAY


# --- deadlines of busy runs -------------------------------------------------------------------------------


def test_nothing_starts_after_the_deadline_even_before_a_timer_has_seen_it(bench: Bench) -> None:
    run = bench.submit(workflow("w", A, timeout=3600))
    make_due(bench)

    assert isinstance(bench.engine.claim(Pointer(run, "0")), Refused)

    bench.engine.expire()
    assert bench.kinds(run) == ["run.submitted", "step.skipped", "run.failed"]


def test_a_paused_run_is_not_woken_by_its_timers(bench: Bench) -> None:
    # Given paused runs with a delayed start, a retry, and deadlines of a fan-out and of a run
    delayed = bench.submit(workflow("w", A), delay=3600)
    retried = bench.submit(workflow("w", A))
    bench.fail(bench.claim(retried, "0"), retry_in=3600)
    late = bench.submit(workflow("w", fan_out(A, B, within=60), timeout=120))
    bench.messages.clear()
    for run in (delayed, retried, late):
        bench.engine.pause(run)

    # When all of that has become due
    make_due(bench)
    before = {run: bench.states(run) for run in (delayed, retried, late)}

    # Then nothing fires, and a look finds nothing to do again and again
    copy = Timers(bench.engine, bench)  # type: ignore[arg-type]
    assert copy.look() == copy.look() == 0
    assert bench.messages == []
    assert {run: bench.states(run) for run in before} == before
    assert bench.query("SELECT count(*) FROM steps WHERE state = 'ready' AND due_at IS NOT NULL") == [(0,)]

    # And when they are resumed, what waited for its time starts
    assert [one.run.id for one in bench.engine.resume(delayed)] == [delayed]
    assert [one.run.id for one in bench.engine.resume(retried)] == [retried]


def test_a_busy_run_delays_nobody_but_itself(bench: Bench) -> None:
    # Given three runs that are late, one of which somebody holds, as a long cancel would
    runs = submit_many(bench, workflow("w", A, timeout=3600), 3)
    make_due(bench)
    with bench.pool.connection() as conn, owning(conn, runs[0]):
        # When the timers look, then they end the two others, soon
        began = time.monotonic()
        bench.engine.expire()
        assert time.monotonic() - began < 3
        assert [bench.views.end(run) is None for run in runs] == [True, False, False]

    # When nobody holds it any more, then it ends as well
    bench.engine.expire()
    assert bench.end(runs[0]).state == "failed"


def test_a_run_that_is_never_idle_is_waited_for(bench: Bench) -> None:
    # Given a late run that somebody shares, as the workers of a wide fan-out do at every moment
    run = bench.submit(workflow("w", A, timeout=3600))
    make_due(bench)

    def fire_until_it_ends() -> None:
        while bench.views.end(run) is None:
            bench.engine.expire()

    with ThreadPoolExecutor(1) as threads:
        with bench.pool.connection() as conn, sharing(conn, [run]):
            # When the timers look, then they queue for the run, so that those who come later wait behind them
            firing = threads.submit(fire_until_it_ends)
            waiting = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            eventually(lambda: bench.query(waiting)[0][0])
        firing.result(20)
    assert bench.end(run).state == "failed"


def test_deadlines_within_one_run_end_from_the_outside_in(bench: Bench) -> None:
    # Given a late fan-out in a late fan-out, and a late one beside them
    inner = fan_out(A, B, within=60, require="any", join=C)
    run = bench.submit(workflow("w", fan_out(A, x=fan_out(y=inner, within=60), z=inner, require="any")))
    for path in ("0/a", "0/x/y/a"):
        bench.finish(bench.claim(run, path))
    make_due(bench)

    # When the timers look
    bench.messages = bench.engine.expire()

    # Then the inner one ends with the outer one and its join does not start; the one beside fails on its own
    assert bench.messages == []
    states = bench.states(run)
    assert {path: states[path] for path in ("0/x", "0/x/y", "0/z")} == {
        "0/x": "failed",
        "0/x/y": "skipped",
        "0/z": "failed",
    }
    assert bench.end(run).state == "completed"


def test_a_thousand_deadlines_at_one_moment_cost_few_transactions(bench: Bench) -> None:
    runs = submit_many(bench, workflow("w", A, timeout=3600), 1_000)
    make_due(bench)
    copy = Timers(bench.engine, bench)  # type: ignore[arg-type]

    looks = 0
    while bench.query("SELECT EXISTS (SELECT FROM runs WHERE finished_at IS NULL)")[0][0]:
        copy.look()
        looks += 1

    assert looks <= 6
    assert bench.query("SELECT count(*) FROM events WHERE kind = 'run.failed'") == [(len(runs),)]


# --- what an idle look costs ------------------------------------------------------------------------------


def test_a_look_reads_the_same_few_pages_however_many_timers_wait(bench: Bench) -> None:
    # Given many timers that are not due, and a great many steps and runs that are none
    submit_many(bench, workflow("later", A, timeout=9_999), 3_000, delay=3600.0)
    submit_many(bench, workflow("now", each(A)), 3, value=f"[{','.join(['1'] * 1_000)}]")
    bench.query("ANALYZE steps, runs")

    # Then a look, and an attempt to take what is due, read a handful of pages
    copy = Timers(bench.engine, bench)  # type: ignore[arg-type]
    assert copy.look() == 0
    for statement, keys in (
        (timer_queries.SELECT_DUE, {"self": None}),
        (timer_queries.TAKE_DUE_STEPS, {"most": timers.MOST}),
        (timer_queries.SELECT_LATE, {"most": timers.MOST}),
    ):
        assert pages(bench.pool, statement, keys) < 40


def pages(pool: Pool, statement: Any, keys: dict[str, Any]) -> int:
    """Pages that a statement reads, as a worker's connection plans it."""
    with pool.connection() as conn:
        (((plan,),),) = conn.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT json) " + statement, keys).fetchall()
    found = plan["Plan"]
    return int(found["Shared Hit Blocks"] + found["Shared Read Blocks"])


def test_a_look_says_when_the_next_one_should_be(bench: Bench) -> None:
    copy = Timers(bench.engine, bench)  # type: ignore[arg-type]
    copy.look()
    assert timers.BREATH <= copy.pause <= timers.TURN

    bench.submit(workflow("w", A), delay=0.2)
    copy.look()
    assert copy.pause <= timers.TURN
    eventually(lambda: copy.look() == 1)


def test_a_look_does_not_hide_that_postgres_is_away(bench: Bench) -> None:
    copy = Timers(bench.engine, bench)  # type: ignore[arg-type]
    copy.look()
    with psycopg.connect(bench.url) as conn:
        conn.execute("ALTER TABLE workers RENAME TO hidden")
        conn.commit()

    with pytest.raises(psycopg.Error):
        copy.look()
    assert copy.pause == timers.AWAY
