"""Fan-outs: how many branches must succeed, how many run at a time, when the join stops waiting, and that it
opens exactly once however the last branches race.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import Part, each, fan_out, workflow
from orchestrator.engine import Claimed, Engine
from orchestrator.store.connect import Pool
from schemas import workflows
from tests.integration.engine.bench import Bench, Boom, done, named
from tests.support import eventually

ABC = [named(name) for name in "abc"]


def losing(*names: str) -> Any:
    """Agents of these names fail."""

    def act(agent: str, value: Any, claimed: Claimed) -> Any:
        if agent in names:
            raise Boom(f"{agent} gave up")
        return value if agent == "join" else agent

    return act


# --- require ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("require", "lost", "enough"),
    [
        ("all", "", True),
        ("all", "b", False),
        ("any", "ab", True),
        ("any", "abc", False),
        ("quorum", "a", True),
        ("quorum", "ab", False),
        (2, "c", True),
        (2, "ac", False),
        (1, "ab", True),
    ],
)
@pytest.mark.parametrize("join", [None, named("join")], ids=["no join", "join"])
def test_a_fan_out_succeeds_when_enough_branches_do(
    bench: Bench, require: Any, lost: str, enough: bool, join: Part | None
) -> None:
    run = bench.submit(workflow("w", fan_out(*ABC, require=require, join=join) >> named("after")))

    bench.drain(losing(*lost))

    end = bench.end(run)
    assert end.state == ("completed" if enough else "failed")
    assert bench.view(run).degraded is bool(lost)
    gaps = {gap.branch: gap.reason for step in bench.view(run).steps for gap in step.gaps}
    assert gaps == {name: f"{name} gave up" for name in lost}
    # No branch is stopped because a sibling failed
    assert {bench.states(run)[f"0/{name}"] for name in "abc" if name not in lost} <= {"done"}


def test_too_few_branches_fail_with_the_count_and_the_first_reason(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(*ABC, require=2)))

    bench.drain(losing("b", "c"))

    error = bench.end(run).error
    assert error is not None
    assert error.message == "1 of 3 branches succeeded, 2 are required; 0/b: b gave up"


# --- parallel ---------------------------------------------------------------------------------------------


def under_way(bench: Bench, run: UUID, parent: str) -> int:
    statement = (
        "SELECT count(*) FROM steps WHERE run_id = %s AND parent = %s AND ordinal >= 0"
        " AND state IN ('ready', 'running', 'open')"
    )
    return int(bench.query(statement, run, parent)[0][0])


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (fan_out(**{f"b{n}": named("a") for n in range(7)}, parallel=2), None),
        (each(named("a"), parallel=2), list(range(7))),
        (each(named("a") >> named("b"), parallel=2, join=named("c")), list(range(7))),
        (each(fan_out(named("a"), named("b")), parallel=2), list(range(5))),
        (each(each(named("a")), parallel=2), [[1, 2], [], [3], [4, 5]]),
    ],
    ids=["fan-out", "each", "pipelines", "nested fan-outs", "nested each"],
)
def test_no_more_branches_are_under_way_than_allowed(bench: Bench, body: Part, value: Any) -> None:
    run = bench.submit(workflow("w", body), value)
    most = 0
    while bench.messages:
        most = max(most, under_way(bench, run, "0"))
        message = bench.messages.pop(0)
        bench.finish(bench.claim(run, message.path), message.path)

    assert most == 2
    assert bench.end(run).state == "completed"


def test_a_fan_out_without_a_limit_still_has_a_window(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "WINDOW", 3)
    run = bench.submit(workflow("w", each(named("a"))), list(range(10)))
    most = 0
    while bench.messages:
        most = max(most, under_way(bench, run, "0"))
        message = bench.messages.pop(0)
        bench.finish(bench.claim(run, message.path), message.path)

    assert most == 3
    assert bench.end(run).output["results"] == [f"0/{n}" for n in range(10)]


def test_a_branch_that_waits_for_its_retry_keeps_its_place(bench: Bench) -> None:
    run = bench.submit(workflow("w", each(named("a"), parallel=1)), [1, 2])

    bench.fail(bench.claim(run, "0/0"), retry_in=3600)

    assert bench.states(run) == {"0": "open", "0/0": "ready", "0/1": "pending"}


# --- within -----------------------------------------------------------------------------------------------


def late(bench: Bench, run: UUID, path: str = "0") -> None:
    """Let the time of a fan-out run out."""
    bench.query(
        "UPDATE steps SET due_at = clock_timestamp() - interval '1 second' WHERE run_id = %s AND path = %s"
        " AND due_at IS NOT NULL",
        run,
        path,
    )


def test_a_join_goes_on_with_what_is_there_when_its_time_is_up(bench: Bench) -> None:
    # Given a fan-out of three with one branch done, one running and one not started
    body = fan_out(*ABC, within=60, require="any", join=named("join", takes={"properties": {"gaps": {}}}))
    run = bench.submit(workflow("w", body))
    bench.finish(bench.claim(run, "0/a"), "in time")
    running = bench.claim(run, "0/b")

    # When its time is up
    late(bench, run)
    bench.messages = bench.engine.expire()

    # Then the join starts, with both gaps named
    assert [message.path for message in bench.messages] == ["0/join"]
    gaps: dict[str, Any] = {}
    bench.drain(lambda agent, value, _: gaps.update(value) or "joined")
    assert gaps["a"] == "in time"
    assert [(gap["branch"], gap["state"]) for gap in gaps["gaps"]] == [("b", "late"), ("c", "late")]
    assert bench.end(run).output == "joined"
    assert bench.view(run).degraded
    # And the late branch is not heard any more
    assert not bench.finish(running).accepted


def test_a_fan_out_with_too_few_branches_in_time_fails(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(*ABC, within=60)))
    bench.finish(bench.claim(run, "0/a"))

    late(bench, run)
    bench.engine.expire()

    error = bench.end(run).error
    assert error is not None
    assert error.message == (
        "1 of 3 branches succeeded, 3 are required; 0/b: the fan-out took longer than 60 s"
    )


def test_an_early_fan_out_is_left_alone(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(*ABC, within=60)))

    assert bench.engine.expire() == []
    assert set(bench.states(run).values()) == {"open", "ready"}


def test_the_time_of_a_nested_fan_out_starts_when_it_opens(bench: Bench) -> None:
    body = each(fan_out(*ABC, within=60, require="any"), parallel=1)
    run = bench.submit(workflow("w", body), [1, 2])
    due = dict(bench.query("SELECT path, due_at FROM steps WHERE run_id = %s", run))
    assert due["0/0"] is not None
    assert due["0/1"] is None

    bench.drain(losing("b", "c"))

    assert [result["a"] for result in bench.end(run).output["results"]] == ["a", "a"]


def test_what_is_nested_in_a_late_branch_is_late_as_well(bench: Bench) -> None:
    inner = fan_out(named("x"), y=named("y") >> named("z"))
    run = bench.submit(workflow("w", fan_out(named("a"), inner=inner, within=60, require="any")))
    bench.finish(bench.claim(run, "0/a"), 1)
    bench.finish(bench.claim(run, "0/inner/y/0"), 1)

    late(bench, run)
    bench.engine.expire()

    states = bench.states(run)
    assert {path for path, state in states.items() if state == "skipped"} == {
        "0/inner",
        "0/inner/x",
        "0/inner/y",
        "0/inner/y/1",
    }
    assert bench.end(run).output == {
        "a": 1,
        "inner": None,
        "gaps": [{"branch": "inner", "state": "late", "reason": "the fan-out took longer than 60 s"}],
    }


def test_a_join_is_not_subject_to_the_time_of_its_branches(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(*ABC, within=60, join=named("join"))))
    for name in "abc":
        bench.finish(bench.claim(run, f"0/{name}"), name)
    late(bench, run)

    assert bench.engine.expire() == []

    assert bench.states(run)["0/join"] == "ready"


def test_time_that_is_up_is_noticed_once_however_many_look(bench: Bench) -> None:
    # Given a fan-out whose time is up, in a run that somebody else is moving just now
    definition = workflow("w", fan_out(*ABC, within=60, require="any", join=named("join")))
    run = bench.submit(definition)
    bench.finish(bench.claim(run, "0/a"), "a")
    late(bench, run)
    with ThreadPoolExecutor(3) as threads:
        with bench.pool.connection() as other, other.transaction():
            other.execute(
                "SELECT pg_advisory_xact_lock(7001, %s)", [int.from_bytes(run.bytes[-4:], signed=True)]
            )

            # When three workers have seen it, and wait for their turn
            looks = [threads.submit(Engine(bench.pool).expire) for _ in range(3)]
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            eventually(lambda: bench.query(waiting) == [(3,)])
        bench.messages = [one for look in looks for one in look.result()]
    bench.drain(losing())

    # Then the join runs
    assert bench.states(run)["0/join"] == "done"
    assert bench.end(run).state == "completed"


# --- races ------------------------------------------------------------------------------------------------


@pytest.fixture
def racers(migrated: str) -> Iterator[Bench]:
    """Three engines with connections of their own, as three worker processes have."""
    made = Bench(migrated, engines=3)
    for engine in made.engines:
        engine.pool = Pool(migrated, size=4)
    yield made
    for engine in made.engines:
        engine.pool.close()
    made.close()


@pytest.mark.parametrize(
    ("name", "body", "value", "join"),
    [
        ("wide", each(named("a"), join=named("join")), list(range(8)), "0/join"),
        ("pair", fan_out(named("a"), named("b"), join=named("join")), None, "0/join"),
        ("nested", each(each(named("a")), join=named("join")), [[1, 2], [3], [4, 5]], "0/join"),
        ("any", each(named("a"), join=named("join"), require="any", parallel=6), list(range(8)), "0/join"),
    ],
)
def test_branches_that_end_together_open_their_join_exactly_once(
    racers: Bench, name: str, body: Part, value: Any, join: str
) -> None:
    definition = workflow(name, body)
    threads = ThreadPoolExecutor(16)
    for _ in range(15):
        # Given several runs whose branches are all claimed
        racers.messages = []
        runs = [racers.submit(definition, value) for _ in range(2)]
        while racers.messages:
            now, racers.messages = racers.messages, []
            engines = [racers.engines[n % 3] for n in range(len(now))]
            claims = [(racers.claim(m.run.id, m.path, e), e) for m, e in zip(now, engines, strict=True)]

            # When they end at the same moment, in several processes
            together = threading.Barrier(len(claims))

            def end(claim: tuple[Claimed, Engine], together: threading.Barrier = together) -> Any:
                together.wait()
                return claim[1].record(done(claim[0], claim[0].path))

            answers = list(threads.map(end, claims))
            assert all(answer.accepted for answer in answers)

            # Then whatever is ready has been told to somebody
            told = {(one.run.id, one.path): one for answer in answers for one in answer.ready}
            ready = racers.query("SELECT run_id, path FROM steps WHERE state = 'ready'")
            assert set(ready) <= set(told)
            racers.messages = [told[one] for one in ready]

        # And each join has run exactly once, and the run is complete
        for run in runs:
            assert racers.end(run).state == "completed"
            assert racers.kinds(run, join).count("step.done") == 1
    threads.shutdown()


def test_a_worker_that_dies_before_it_looked_again_does_not_lose_the_join(bench: Bench) -> None:
    # Given a fan-out whose last branch ends while another transaction looks at its join
    run = bench.submit(workflow("w", fan_out(named("a"), named("b"), join=named("join"))))
    bench.finish(bench.claim(run, "0/a"), 1)
    last = bench.claim(run, "0/b")
    with bench.pool.connection() as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(7002, hashtext(%s || '0'))", [str(run)])
        with pytest.MonkeyPatch.context() as patched:
            # When the worker dies after its commit, before it could look again
            patched.setattr(Engine, "settle", lambda *_: [])
            assert bench.finish(last, 2).accepted
    assert bench.states(run)["0/b"] == "done"

    # Then recovery finds the join
    bench.messages = []
    bench.sweep()
    bench.drain()
    assert bench.end(run).state == "completed"
