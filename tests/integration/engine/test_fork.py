"""A fork keeps the checkpoints before its step, runs that step and all that follows, and nothing twice."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine import Claimed, Engine, Pointer, fork
from orchestrator.engine.fork import beginning
from orchestrator.engine.values import WorkerBeat
from orchestrator.identify import new_id
from schemas import workflows
from schemas.errors import Conflict, NotFound
from schemas.runs import RunState
from tests.integration.engine.bench import Bench, Boom, named
from tests.integration.engine.reference import TOLD, Generator, act, decide, meaning, nameless
from tests.integration.engine.test_replay import assert_told

A, B, C, D = (named(name) for name in "abcd")


def noting(agent: str, value: Any, claimed: Claimed) -> Any:
    """What an agent made of its input, readable."""
    return f"{agent}({value})"


def forked(bench: Bench, origin: UUID, step: str, given: str | None = None) -> UUID:
    """A fork; its first messages are under way, and no others."""
    run = new_id()
    bench.executed.clear()
    bench.messages = bench.engine.fork(origin, step, run, given)
    return run


def executed(bench: Bench, run: UUID) -> list[str]:
    return sorted(path for one, path in bench.executed if one == run)


# --- what is kept, and what is done again -----------------------------------------------------------------


def test_a_fork_executes_its_step_and_what_follows_and_keeps_what_was_before(bench: Bench) -> None:
    # Given a completed run
    definition = workflow("w", A >> B >> C >> D, timeout=60)
    origin = bench.submit(definition, "x", tenant="t", priority=7, labels={"team": "legal"})
    bench.drain(noting)
    before = bench.view(origin), bench.events(origin)

    # When it is forked from its third stage
    run = forked(bench, origin, "2")
    assert [(one.path, one.run.priority) for one in bench.messages] == [("2", 7)]
    bench.drain(noting)

    # Then only that stage and the next were executed, and the result is the same
    assert executed(bench, run) == ["2", "3"]
    assert bench.end(run).output == bench.end(origin).output == "d(c(b(a(x))))"
    # And it is a run of the same definition on behalf of the same people, with a time limit of its own
    view = bench.view(run)
    assert (view.tenant, view.priority, view.labels, view.input) == ("t", 7, {"team": "legal"}, "x")
    assert (view.forked_from, view.forked_at) == (origin, "2")
    rows = bench.query("SELECT count(DISTINCT definition_id) FROM runs")
    assert rows == [(1,)]
    # And the run it comes from is as it was, but knows its fork
    after = bench.view(origin)
    assert after.forks == (run,)
    assert (after.model_copy(update={"forks": ()}), bench.events(origin)) == before


def test_a_fork_has_a_deadline_of_its_own(bench: Bench) -> None:
    origin = bench.submit(workflow("w", A >> B, timeout=60))
    bench.drain()

    run = forked(bench, origin, "1")

    (left,) = bench.query(
        "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM runs WHERE id = %s", run
    )[0]
    assert left == pytest.approx(60, abs=20)


def test_another_input_takes_the_place_of_the_steps_own(bench: Bench) -> None:
    origin = bench.submit(workflow("w", A >> B >> C), "x")
    bench.drain(noting)

    run = forked(bench, origin, "1", '"other"')
    bench.drain(noting)

    assert bench.end(run).output == "c(b(other))"
    # What the run was asked for stays what it was
    assert bench.view(run).input == "x"


@pytest.mark.parametrize(
    ("body", "step", "given", "output"),
    [
        (fan_out(b=B >> C, c=C, join=D), "0/b", '"y"', "d({'b': 'c(b(y))', 'c': 'c(x)'})"),
        (A >> fan_out(b=B, c=C, join=D), "1", '"y"', "d({'b': 'b(y)', 'c': 'c(y)'})"),
        (A >> each(B, join=D), "1", '["y", "z"]', "d({'results': ['b(y)', 'b(z)'], 'gaps': []})"),
        (A >> each(B, join=D), "1/join", '"y"', "d(y)"),
        (A >> each(B >> C, join=D), "1/1", '"y"', "d({'results': ['c(b(p))', 'c(b(y))'], 'gaps': []})"),
        (fan_out(b=B, c=C), "0/c", '"y"', {"b": "b(x)", "c": "c(y)", "gaps": []}),
    ],
    ids=["pipeline", "fan-out", "each", "join", "item", "branch"],
)
def test_composites_and_parts_of_them_take_another_input_too(
    bench: Bench, body: Any, step: str, given: str, output: Any
) -> None:
    def listing(agent: str, value: Any, claimed: Claimed) -> Any:
        return ["p", "q"] if agent == "a" else noting(agent, value, claimed)

    origin = bench.submit(workflow("w", body), "x")
    bench.drain(listing)

    run = forked(bench, origin, step, given)
    bench.drain(listing)

    assert bench.end(run).output == output
    assert_told(bench, run)


NESTED = A >> fan_out(
    left=B >> each(C >> D, parallel=2, join=named("join")) >> named("e"),
    right=B >> C,
    join=named("outer"),
) >> D  # fmt: skip


@pytest.mark.parametrize(
    ("step", "again"),
    [
        ("0", None),
        ("1", ["1/join", "1/left/0", "1/left/1/0/0", "1/left/1/0/1", "1/left/1/1/0", "1/left/1/1/1",
               "1/left/1/2/0", "1/left/1/2/1", "1/left/1/join", "1/left/2", "1/right/0", "1/right/1", "2"]),
        ("1/left/1", ["1/join", "1/left/1/0/0", "1/left/1/0/1", "1/left/1/1/0", "1/left/1/1/1",
                      "1/left/1/2/0", "1/left/1/2/1", "1/left/1/join", "1/left/2", "2"]),
        ("1/left/1/1", ["1/join", "1/left/1/1/0", "1/left/1/1/1", "1/left/1/join", "1/left/2", "2"]),
        ("1/left/1/1/1", ["1/join", "1/left/1/1/1", "1/left/1/join", "1/left/2", "2"]),
        ("1/left/1/join", ["1/join", "1/left/1/join", "1/left/2", "2"]),
        ("1/left/2", ["1/join", "1/left/2", "2"]),
        ("1/right", ["1/join", "1/right/0", "1/right/1", "2"]),
        ("1/right/1", ["1/join", "1/right/1", "2"]),
        ("1/join", ["1/join", "2"]),
        ("2", ["2"]),
    ],
)  # fmt: skip
def test_what_follows_from_a_step_is_what_is_done_again(
    bench: Bench, step: str, again: list[str] | None
) -> None:
    def three(agent: str, value: Any, claimed: Claimed) -> Any:
        return [1, 2, 3] if claimed.path == "1/left/0" else agent

    origin = bench.submit(workflow("w", NESTED), "x")
    bench.drain(three)
    agents = {path for _, path in bench.executed}

    run = forked(bench, origin, step)
    bench.drain(three)

    assert executed(bench, run) == (sorted(agents) if again is None else again)
    assert bench.end(run).output == bench.end(origin).output
    assert bench.states(run) == bench.states(origin)
    assert_told(bench, run)


def test_what_is_kept_is_neither_executed_nor_paid_for_by_the_fork(bench: Bench) -> None:
    origin = bench.submit(workflow("w", A >> B))
    bench.drain()
    bench.query("""UPDATE steps SET usage = '{"tokens": 5}' WHERE kind = 'agent'""")

    run = forked(bench, origin, "1")

    kept, again = bench.view(run).steps
    assert (kept.state, kept.attempt, kept.worker, kept.usage.tokens) == ("done", 0, None, 0)
    was = bench.view(origin).steps[0]
    assert (kept.started_at, kept.finished_at) == (was.started_at, was.finished_at)
    assert (again.state, again.attempt) == ("ready", 0)
    assert bench.query("SELECT count(*) FROM attempts WHERE run_id = %s", run) == [(0,)]
    assert bench.kinds(run) == ["run.submitted", "step.copied", "run.forked"]
    assert bench.events(run)[-1].data == {"from": str(origin), "step": "1", "kept": 1}


# --- forks of runs in any state ---------------------------------------------------------------------------


def test_a_fork_of_a_running_run_keeps_what_was_done_by_then(bench: Bench) -> None:
    # Given a run with a done branch, one that runs, one that is half done, one that waits for its turn
    body = fan_out(a=A, b=B, c=C >> D, d=D, join=named("join"), parallel=3) >> named("end")
    origin = bench.submit(workflow("w", body))
    bench.finish(bench.claim(origin, "0/a"), 1)
    running = bench.claim(origin, "0/b")
    bench.finish(bench.claim(origin, "0/c/0"), 1)
    assert bench.states(origin)["0/d"] == "ready"

    # When it is forked from the half done branch
    run = forked(bench, origin, "0/c/1")

    # Then that and the others start anew, within the window
    assert bench.states(run) == {
        "0": "open", "0/a": "done", "0/b": "ready", "0/c": "open", "0/c/0": "done", "0/c/1": "ready",
        "0/d": "ready",
    }  # fmt: skip
    assert sorted(one.path for one in bench.messages) == ["0/b", "0/c/1", "0/d"]
    bench.drain()
    assert bench.end(run).state == "completed"
    assert executed(bench, run) == ["0/b", "0/c/1", "0/d", "0/join", "1"]
    # And the run it came from goes on by itself
    assert bench.finish(running, 1).accepted


def test_a_pending_item_can_be_forked_from_and_goes_first(bench: Bench) -> None:
    origin = bench.submit(workflow("w", each(A >> B, parallel=2)), [0, 1, 2, 3, 4])
    assert bench.states(origin)["0/4"] == "pending"

    run = forked(bench, origin, "0/4")

    assert sorted(one.path for one in bench.messages) == ["0/0/0", "0/4/0"]
    while bench.messages:
        assert len(bench.messages) <= 2
        bench.finish(bench.claim(run, bench.messages.pop().path), 1)
    assert bench.end(run).state == "completed"
    assert_told(bench, run)


@pytest.mark.parametrize("ending", ["failed", "cancelled", "paused", "out of time", "dead"])
def test_a_run_that_got_stuck_can_be_forked(bench: Bench, ending: str) -> None:
    # Given a run of half done branches that came to an end in some way
    origin = bench.submit(workflow("w", each(A >> B, parallel=2, join=C), timeout=60), [0, 1, 2])
    bench.finish(bench.claim(origin, "0/0/0"), 1)
    match ending:
        case "failed":
            bench.drain(lambda agent, value, _: value if agent == "a" else _raise())
        case "cancelled":
            bench.engine.cancel(origin)
        case "paused":
            bench.engine.pause(origin)
        case "out of time":
            bench.query("UPDATE runs SET due_at = clock_timestamp()")
            bench.fire()
        case "dead":
            for _ in range(3):
                bench.claim(origin, "0/0/1")
                bench.engine.release(Pointer(origin, "0/0/1"))
            assert bench.view(origin).state == "paused"
    done = {path for path, state in bench.states(origin).items() if state == "done"}

    # When it is forked, then what was done is kept and the rest is done
    run = forked(bench, origin, "0/0/1")
    assert bench.view(run).state == RunState.QUEUED
    bench.drain()

    assert bench.end(run).state == "completed"
    everything = {f"0/{item}/{stage}" for item in range(3) for stage in range(2)} | {"0/join"}
    assert set(executed(bench, run)) == everything - done
    assert_told(bench, run)


def _raise() -> Any:
    raise Boom("gave up")


def test_gaps_stay_before_a_join_and_are_tried_again_beside_a_branch(bench: Bench) -> None:
    body = fan_out(a=A, b=B, c=C, require="any", join=D)
    origin = bench.submit(workflow("w", body))
    bench.drain(lambda agent, value, _: _raise() if agent == "b" else agent)
    assert bench.states(origin)["0/b"] == "failed"

    # The join was content with what there was, and is so again
    run = forked(bench, origin, "0/join")
    bench.drain()
    assert executed(bench, run) == ["0/join"]
    assert bench.states(run)["0/b"] == "failed"
    assert bench.view(run).degraded
    assert_told(bench, run)

    # A fan-out that is open again has no gaps yet
    run = forked(bench, origin, "0/c")
    bench.drain()
    assert executed(bench, run) == ["0/b", "0/c", "0/join"]
    assert not bench.view(run).degraded
    assert_told(bench, run)


def test_the_deadline_of_a_fan_out_around_the_step_begins_anew(bench: Bench) -> None:
    body = A >> fan_out(a=A, b=fan_out(c=C, d=D, within=50), within=100, require="any", join=B)
    origin = bench.submit(workflow("w", body))
    bench.drain()

    def deadlines(run: UUID) -> dict[str, int]:
        left = "round(extract(epoch FROM due_at - clock_timestamp()) / 10) * 10"
        return dict(
            bench.query(
                f"SELECT path, {left}::int FROM steps WHERE run_id = %s AND due_at IS NOT NULL",  # noqa: S608
                run,
            )
        )

    assert deadlines(forked(bench, origin, "1/b/c")) == {"1": 100, "1/b": 50}
    assert deadlines(forked(bench, origin, "1/a")) == {"1": 100}
    assert deadlines(forked(bench, origin, "1")) == {"1": 100, "1/b": 50}
    # A join waits for nobody
    run = forked(bench, origin, "1/join")
    assert deadlines(run) == {}
    # And a deadline that fires leaves a gap, as ever
    run = forked(bench, origin, "1/b/c")
    bench.query("UPDATE steps SET due_at = clock_timestamp() WHERE run_id = %s AND path = '1/b'", run)
    bench.drain()
    assert bench.end(run).state == "completed"


def test_a_fork_can_be_forked_paused_resumed_and_cancelled_like_any_run(bench: Bench) -> None:
    origin = bench.submit(workflow("w", A >> B >> C >> D), "x")
    bench.drain(noting)
    first = forked(bench, origin, "2", '"1st"')
    bench.drain(noting)

    second = forked(bench, first, "3")
    bench.engine.pause(second)
    bench.messages = bench.engine.resume(second)
    bench.drain(noting)

    assert bench.end(second).output == bench.end(first).output == "d(c(1st))"
    assert (bench.view(second).forked_from, bench.view(first).forks) == (first, (second,))
    third = forked(bench, second, "0", '"3rd"')
    bench.engine.cancel(third)
    assert bench.view(third).state == "cancelled"
    for run in (first, second, third):
        assert_told(bench, run)


def test_a_failed_fork_is_resumed_without_doing_again_what_it_was_given(bench: Bench) -> None:
    origin = bench.submit(workflow("w", A >> each(B >> C)), [1, 2])
    bench.drain(lambda agent, value, _: [1, 2] if agent == "a" else value)
    run = forked(bench, origin, "1/0/1")
    bench.drain(lambda agent, value, _: _raise())
    assert bench.end(run).state == "failed"

    bench.messages = bench.engine.resume(run)
    bench.executed.clear()
    bench.drain()

    assert executed(bench, run) == ["1/0/1"]
    assert bench.end(run).state == "completed"


def test_a_fork_outlives_the_run_it_came_from(bench: Bench) -> None:
    origin = bench.submit(workflow("w", A >> B), "x")
    bench.drain(noting)
    run = forked(bench, origin, "1")

    for table in ("steps", "attempts", "events"):
        bench.query(f"DELETE FROM {table} WHERE run_id = %s", origin)  # noqa: S608
    bench.query("DELETE FROM runs WHERE id = %s", origin)
    bench.drain(noting)

    assert bench.end(run).output == "b(a(x))"
    assert bench.view(run).forked_from == origin
    assert_told(bench, run)


def test_the_message_of_a_fork_that_was_never_sent_is_sent_by_recovery(bench: Bench) -> None:
    origin = bench.submit(workflow("w", A >> B))
    bench.drain()
    run = forked(bench, origin, "1")
    bench.messages = []

    bench.engine.beat(WorkerBeat(bench.engine.me, ("agent.b",), 1, "threads", lease=60), 0)
    bench.sweep()
    bench.drain()

    assert bench.end(run).state == "completed"


# --- what cannot be forked --------------------------------------------------------------------------------


def test_a_step_that_does_not_exist_or_was_not_reached_is_named(bench: Bench) -> None:
    origin = bench.submit(workflow("w", A >> each(B) >> C))

    for step in ("3", "0/1", "1/x", "1/0/0", "join", "", "1/join"):
        with pytest.raises(NotFound, match=f"workflow 'w' has no step '{step}'") as caught:
            bench.engine.fork(origin, step, new_id())
        assert caught.value.next_step == f"baton runs events {origin}"
    for step in ("1", "1/0", "2"):
        with pytest.raises(Conflict, match=f"has not reached step {step}") as refused:
            bench.engine.fork(origin, step, new_id())
        assert refused.value.next_step == f"baton runs events {origin}"
    with pytest.raises(NotFound, match="there is no run"):
        bench.engine.fork(uuid4(), "0", new_id())
    # And nothing is left of the attempts
    assert bench.query("SELECT count(*) FROM runs") == [(1,)]


def test_a_run_that_is_pruned_while_it_is_forked_leaves_nothing_behind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = bench.submit(workflow("w", A >> B))
    bench.drain()

    def pruned(*args: Any) -> Any:
        with bench.pool.connection() as other:
            other.execute("DELETE FROM steps WHERE run_id = %s", [origin])
        return beginning(*args)

    monkeypatch.setattr(fork, "beginning", pruned)
    with pytest.raises(NotFound, match="there is no run"):
        bench.engine.fork(origin, "1", new_id())

    assert bench.query("SELECT count(*) FROM runs") == [(1,)]
    assert bench.query("SELECT count(*) FROM steps") == [(0,)]


# --- any workflow, any step -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_fork_of_any_run_from_any_step_means_what_the_run_means(
    crowd: Bench, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given random runs, worked off for a while, with mishaps
    if seed % 2:
        monkeypatch.setattr(workflows, "WINDOW", 2)
    crowd.rng.seed(seed)
    crowd.people, crowd.news = decide, TOLD
    generator = Generator(seed)
    definitions = {}
    for number in range(12):
        definition = generator.workflow(f"random-{number}")
        definitions[crowd.submit(definition, number)] = (definition, number)

    def work(agent: str, value: Any, claimed: Claimed) -> Any:
        return act(agent, value)

    crowd.drain(work, chaos=0.2, rounds=crowd.rng.randint(2, 30))

    # When each is forked twice, from steps that it has reached, and the forks too
    done: dict[UUID, set[str]] = {}
    for _ in range(2):
        for origin in list(definitions):
            step = crowd.rng.choice(sorted(crowd.states(origin)))
            run = new_id()
            crowd.messages += crowd.rng.choice(crowd.engines).fork(origin, step, run)
            definitions[run] = definitions[origin]
            done[run] = {path for path, state in crowd.states(run).items() if state == "done"}
    crowd.drain(work, chaos=0.2)

    # Then all end as their definition means, and no fork executed what it was given as done
    for run, (definition, value) in definitions.items():
        end = crowd.end(run)
        found = end.error.message if end.error is not None else end.output
        assert (end.state, nameless(found)) == meaning(definition, value), definition.model_dump_json(
            indent=1
        )
        assert not {path for one, path in crowd.executed if one == run} & done.get(run, set())
        assert_told(crowd, run)
    assert set(crowd.executed.values()) <= {1}
    unfinished = "('pending', 'ready', 'running', 'open', 'waiting', 'dead')"
    assert crowd.query(f"SELECT path FROM steps WHERE state IN {unfinished}") == []  # noqa: S608


def test_where_a_fork_begins_is_a_function_of_the_plan_and_the_states() -> None:
    plan = compile_workflow(workflow("w", fan_out(a=A >> B, b=A >> B, c=A, parallel=1, join=C) >> D))
    origin = {
        "0": "open", "0/a": "done", "0/a/0": "done", "0/a/1": "done", "0/b": "open", "0/b/0": "done",
        "0/b/1": "running", "0/c": "pending",
    }  # fmt: skip

    assert beginning(plan, origin, "0/a/1") == {
        "0": "open", "0/a": "open", "0/a/0": None, "0/a/1": "ready", "0/b": "pending", "0/b/0": None,
        "0/b/1": "pending", "0/c": "pending",
    }  # fmt: skip
    assert beginning(plan, origin, "0") == {"0": "open"}


def test_engines_share_the_work_of_a_fork(crowd: Bench) -> None:
    """A fork is made by a producer, which is no worker."""
    origin = crowd.submit(workflow("w", A >> B))
    crowd.drain()
    producer, run = Engine(crowd.pool), new_id()
    crowd.messages = producer.fork(origin, "0", run)
    crowd.drain()
    assert crowd.end(run).state == "completed"
