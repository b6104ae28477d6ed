"""Steps that wait for a person: who is asked, how it ends, what becomes of it meanwhile."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import (
    Composable,
    approve,
    each,
    fan_out,
    loop,
    pipeline,
    route,
    rule,
    workflow,
)
from orchestrator.engine import Engine, Pointer, Refused, WorkerId
from orchestrator.engine.values import error_text
from orchestrator.engine.waits import WaitEnd
from orchestrator.identify import new_id
from orchestrator.watching.replay import Replay
from schemas.errors import Conflict, DefinitionError
from schemas.events import EventKind
from schemas.runs import RunState
from schemas.workflows import Workflow
from tests.integration.engine.bench import Bench, named

A, B, C = (named(name) for name in "abc")


def started(bench: Bench, body: Composable, value: Any = None, **fields: Any) -> UUID:
    """A run that was worked off as far as it goes without people."""
    definition = body if isinstance(body, Workflow) else workflow("w", body)
    run = bench.submit(definition, value, **fields)
    bench.drain()
    return run


def waits(bench: Bench, run: UUID) -> dict[str, int]:
    """The open waits of a run, by path."""
    return dict(bench.query("SELECT path, id FROM waits WHERE run_id = %s AND settled_at IS NULL", run))


def approving(wait: int, *, by: str = "ann", output: Any = None) -> WaitEnd:
    text = json.dumps(output) if output is not None else None
    return WaitEnd(wait, "approved", by, "done", output=text, told={"choice": "approved", "by": by})


def rejecting(wait: int, *, by: str = "bob") -> WaitEnd:
    error = error_text("Rejected", f"{by} rejected it")
    return WaitEnd(wait, "rejected", by, "failed", error=error, told={"choice": "rejected", "by": by})


def end(bench: Bench, *ends: WaitEnd) -> frozenset[int]:
    """End waits, and work on; those that were still open."""
    ended = bench.engine.end_waits(ends)
    bench.messages += ended.ready
    bench.drain()
    return ended.waits


def later(bench: Bench, run: UUID, seconds: float) -> None:
    """The clocks of the run's waits go on."""
    bench.query(
        "UPDATE steps SET due_at = due_at - make_interval(secs => %s) WHERE run_id = %s AND state = 'waiting'",
        seconds,
        run,
    )
    bench.fire()
    bench.drain()


def decisions(bench: Bench, run: UUID) -> list[dict[str, Any]]:
    return [event.data for event in bench.events(run) if event.kind is EventKind.STEP_DECIDED]


def assert_told(bench: Bench, run: UUID) -> None:
    """The events alone tell the states of the run and its steps."""
    replay = Replay(bench.plan(run), bench.events(run))
    ((state,),) = bench.query("SELECT state FROM runs WHERE id = %s", run)
    assert replay.state == state
    assert {path: step.state.value for path, step in replay.steps.items()} == bench.states(run)


# --- what a decision does ---------------------------------------------------------------------------------


def test_an_approved_value_goes_on_as_it_was(bench: Bench) -> None:
    run = started(bench, A >> approve("publish") >> B, {"x": 1})
    assert bench.states(run) == {"0": "done", "1": "waiting"}
    assert_told(bench, run)

    end(bench, approving(waits(bench, run)["1"]))

    assert bench.end(run).output == {"x": 1}
    assert_told(bench, run)


def test_an_edited_value_takes_the_place_of_what_was_given(bench: Bench) -> None:
    run = started(bench, A >> approve("publish") >> B, {"x": 1})

    end(bench, approving(waits(bench, run)["1"], output={"x": 2}))

    assert bench.end(run).output == {"x": 2}
    assert_told(bench, run)


def test_a_rejection_fails_the_step_with_its_reason(bench: Bench) -> None:
    run = started(bench, A >> approve("publish") >> B)

    end(bench, rejecting(waits(bench, run)["1"]))

    found = bench.end(run)
    assert (found.state, found.error and found.error.message) == ("failed", "bob rejected it")
    assert_told(bench, run)


def test_a_rejection_can_be_caught(bench: Bench) -> None:
    optional = started(bench, A >> approve("publish").optional() >> B, 1)
    otherwise = started(bench, A >> approve("publish").otherwise(C) >> B, 1)
    for run in (optional, otherwise):
        end(bench, rejecting(waits(bench, run)["1/do"]))

    assert bench.end(optional).output == 1
    assert bench.view(optional).degraded
    assert bench.states(otherwise)["1/else"] == "done"


def test_a_rejection_is_asked_again_when_its_run_is_resumed(bench: Bench) -> None:
    run = started(bench, A >> approve("publish") >> B, 1)
    end(bench, rejecting(waits(bench, run)["1"]))

    bench.messages += bench.engine.resume(run)
    bench.drain()
    end(bench, approving(waits(bench, run)["1"]))

    assert bench.end(run).output == 1
    assert bench.executed[run, "0"] == 1
    assert_told(bench, run)


@pytest.mark.parametrize(
    "body",
    [
        approve("first") >> A,
        each(approve("item"), parallel=1) >> A,
        each(A >> approve("item"), join=B),
        fan_out(a=approve("a"), b=A, c=approve("c") >> B, join=C),
        fan_out(a=approve("a"), b=approve("b"), parallel=1) >> approve("all") >> A,
        route(
            yes=approve("yes"),
            no=A,
            rules=[rule("list", go="yes", when="size(input) == 2")],
            fallback="no",
        ),
        loop(approve("round") >> A, max_rounds=2),
        pipeline(approve("first"), A, stop_when="false"),
    ],
)
def test_it_nests_in_every_pattern(bench: Bench, body: Composable) -> None:
    # Given a run whose approvals come one after the other, in any order
    run = started(bench, body, [1, 2])
    seen = 0
    while found := waits(bench, run):
        seen += 1
        assert_told(bench, run)

        # When each is approved
        end(bench, approving(found[bench.rng.choice(sorted(found))]))

    # Then the run ends well
    assert bench.end(run).state is RunState.COMPLETED
    assert seen
    assert_told(bench, run)


def test_two_deciders_cannot_both_win(bench: Bench) -> None:
    # Given many waits, and two people on connections of their own
    runs = [started(bench, approve("publish") >> A) for _ in range(10)]
    found = [waits(bench, run)["0"] for run in runs]
    engines = [Engine(bench.pool, WorkerId(uuid4(), name)) for name in ("ann", "bob")]

    # When they decide at the same time, one approving and one rejecting
    with ThreadPoolExecutor(2) as people:
        for wait in found:
            both = [
                people.submit(engine.end_waits, [verdict])
                for engine, verdict in zip(engines, [approving(wait), rejecting(wait)], strict=True)
            ]
            ended = [one.result() for one in both]

            # Then one of them has decided, and what follows follows from that
            assert sorted(len(one.waits) for one in ended) == [0, 1]
            bench.messages += [ready for one in ended for ready in one.ready]
    bench.drain()
    for run in runs:
        (told,) = decisions(bench, run)
        assert bench.end(run).state == {"approved": "completed", "rejected": "failed"}[told["choice"]]


def test_branches_that_are_decided_together_are_joined_once(bench: Bench) -> None:
    run = started(bench, each(approve("item"), join=A), list(range(20)))
    found = list(waits(bench, run).values())

    with ThreadPoolExecutor(4) as people:
        ended = list(people.map(lambda wait: bench.engine.end_waits([approving(wait)]), found))
    bench.messages += [ready for one in ended for ready in one.ready]
    bench.drain()

    assert bench.end(run).output == {"results": list(range(20)), "gaps": []}
    assert bench.executed[run, "0/join"] == 1


# --- who is asked at all ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "value", "asks"),
    [
        ({}, 1, True),
        ({"risk": "low"}, 1, False),
        ({"risk": "medium"}, 1, False),
        ({"risk": "input.amount > 100"}, {"amount": 500}, True),
        ({"risk": "input.amount > 100"}, {"amount": 50}, False),
        ({"risk": "input.risk"}, {"risk": "low"}, False),
        ({"risk": "input.risk"}, {"risk": "high"}, True),
        ({"risk": "input.risk"}, {"risk": "odd"}, True),
        ({"risk": "input.risk"}, {}, True),
        ({"confidence": "input.sure", "threshold": 0.8}, {"sure": 0.8}, False),
        ({"confidence": "input.sure", "threshold": 0.8}, {"sure": 0.7}, True),
        ({"confidence": "input.sure", "threshold": 0.8}, {"sure": "very"}, True),
    ],
)
def test_a_person_is_asked_where_the_policy_does_not_decide(
    bench: Bench, policy: dict[str, Any], value: Any, asks: bool
) -> None:
    run = started(bench, approve("publish", **policy) >> A, value)

    assert bool(waits(bench, run)) is asks
    if not asks:
        assert bench.end(run).output == value
        (told,) = decisions(bench, run)
        assert (told["choice"], told["by"], told["shown"]) == ("approved", "policy", value)
    assert_told(bench, run)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"risk": "input."}, "is no condition"),
        ({"risk": "amount > 1"}, "uses amount"),
        ({"confidence": "input.sure"}, "`confidence` and `threshold` need each other"),
        ({"escalate_to": ["boss"]}, "`escalate_to` and `escalate_after` need each other"),
        ({"escalate_to": ["boss"], "escalate_after": 60, "expires": 60}, "escalates after 60 s"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(DefinitionError, match=fault):
        workflow("w", A >> approve("publish", **fields))


def test_types_are_checked_through_an_approval() -> None:
    giving = named("giving", gives={"type": "object", "properties": {"x": {"type": "string"}}})
    taking = named("taking", takes={"type": "integer"})

    with pytest.raises(DefinitionError, match="is object, but integer is wanted"):
        workflow("w", giving >> approve("publish") >> taking)


NUMBER: dict[str, Any] = {"type": "integer"}
TAKING = named("taking", takes=NUMBER)


@pytest.mark.parametrize(
    ("body", "takes", "path", "edited"),
    [
        (approve("publish") >> TAKING, NUMBER, "0", NUMBER),
        (approve("publish").optional() >> TAKING, NUMBER, "0/do", NUMBER),
        (approve("one") >> approve("two") >> TAKING, NUMBER, "1", NUMBER),
        (each(approve("item") >> TAKING), {"type": "array", "items": NUMBER}, "0/*/0", NUMBER),
        (each(approve("item")), {"type": "array", "items": {}}, "0/*", {}),
        (fan_out(a=approve("a"), b=TAKING), {"allOf": [{}, NUMBER]}, "0/a", {}),
        (named("giving", gives=NUMBER) >> approve("publish") >> A, {}, "1", NUMBER),
    ],
)
def test_what_comes_by_is_what_the_next_agent_takes(
    body: Composable, takes: dict[str, Any], path: str, edited: dict[str, Any]
) -> None:
    plan = compile_workflow(workflow("w", body))

    found = {key: one for key, one in plan.input_schema.items() if key != "maxItems"}
    assert found == takes
    assert plan.input_schema_at(path) == edited


# --- its time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("default", "state"), [("reject", "failed"), ("approve", "completed")])
def test_what_nobody_decides_in_time_is_decided_by_default(bench: Bench, default: Any, state: str) -> None:
    run = started(bench, approve("publish", expires=60, default=default) >> A, 1)
    later(bench, run, 59)
    assert waits(bench, run)

    later(bench, run, 1)

    assert bench.end(run).state == state
    (told,) = decisions(bench, run)
    assert told["by"] == "expiry"
    assert "nobody had decided after 60 s" in told["reason"]
    assert told["digest"].startswith("sha256:")
    assert_told(bench, run)


def test_many_copies_of_the_timers_let_a_wait_expire_once(bench: Bench) -> None:
    runs = [started(bench, approve("publish", expires=60, default="approve") >> A) for _ in range(10)]
    bench.query("UPDATE steps SET due_at = now() WHERE state = 'waiting'")

    with ThreadPoolExecutor(4) as copies:
        ready = [copies.submit(bench.engine.expire_waits) for _ in range(4)]
    bench.messages += [one for copy in ready for one in copy.result()]
    bench.messages += bench.engine.expire_waits()
    bench.drain()

    for run in runs:
        assert bench.end(run).state is RunState.COMPLETED
        assert len(decisions(bench, run)) == 1


def test_others_are_asked_when_nobody_has_decided_for_a_while(bench: Bench) -> None:
    policy = {"approvers": ["ann"], "escalate_to": ["boss"], "escalate_after": 60, "expires": 300}
    run = started(bench, approve("publish", **policy) >> A)

    later(bench, run, 60)

    assert bench.query("SELECT audience FROM waits") == [(["ann", "boss"],)]
    assert EventKind.STEP_ESCALATED in bench.kinds(run)
    assert_told(bench, run)
    # And it still expires when it was to
    later(bench, run, 239)
    assert waits(bench, run)
    later(bench, run, 2)
    assert bench.end(run).state is RunState.FAILED


def test_what_never_expires_may_escalate(bench: Bench) -> None:
    run = started(bench, approve("publish", escalate_to=["boss"], escalate_after=60) >> A, 1)

    later(bench, run, 60)

    assert bench.kinds(run, "0")[-1] == "step.escalated"
    assert bench.query("SELECT due_at FROM steps") == [(None,)]
    # Who asked everybody still asks everybody
    assert bench.query("SELECT audience FROM waits") == [([],)]
    assert_told(bench, run)
    end(bench, approving(waits(bench, run)["0"], by="carl"))
    assert bench.end(run).output == 1


def test_a_delayed_run_asks_when_its_time_has_come(bench: Bench) -> None:
    run = started(bench, approve("publish") >> A, delay=60.0)
    assert bench.query("SELECT kind FROM waits WHERE settled_at IS NULL") == [("delay",)]

    later(bench, run, 60)

    assert bench.query("SELECT kind FROM waits WHERE settled_at IS NULL") == [("approval",)]
    assert_told(bench, run)
    end(bench, approving(waits(bench, run)["0"]))
    assert bench.end(run).state is RunState.COMPLETED


# --- whole runs -------------------------------------------------------------------------------------------


def test_nobody_can_decide_for_a_run_that_was_cancelled(bench: Bench) -> None:
    run = started(bench, approve("publish", expires=60) >> A)
    wait = waits(bench, run)["0"]

    bench.engine.cancel(run)

    assert waits(bench, run) == {}
    assert end(bench, approving(wait)) == frozenset()
    assert bench.states(run) == {"0": "cancelled"}
    assert bench.query("SELECT count(*) FROM steps WHERE due_at IS NOT NULL") == [(0,)]
    assert_told(bench, run)


def test_the_clock_of_a_wait_stands_still_while_its_run_is_paused(bench: Bench) -> None:
    run = started(bench, approve("publish", expires=60) >> A)
    bench.engine.pause(run)
    assert bench.query("SELECT due_at, time_left > interval '55 s' FROM steps") == [(None, True)]

    bench.messages += bench.engine.resume(run)

    assert bench.query("SELECT due_at > now() + interval '55 s' FROM steps") == [(True,)]
    later(bench, run, 60)
    assert bench.end(run).state is RunState.FAILED


def test_a_decision_in_a_paused_run_counts_but_nothing_starts(bench: Bench) -> None:
    run = started(bench, approve("publish") >> A, 1)
    bench.engine.pause(run)

    end(bench, approving(waits(bench, run)["0"]))

    assert bench.messages == []
    assert isinstance(bench.engine.claim(Pointer(run, "1")), Refused)
    bench.messages += bench.engine.resume(run)
    bench.drain()
    assert bench.end(run).output == 1


def test_a_wait_that_begins_in_a_paused_run_has_all_of_its_time(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> approve("publish", expires=60)))
    claimed = bench.claim(run, "0")
    bench.engine.pause(run)
    bench.finish(claimed, 1)
    assert bench.query("SELECT due_at FROM steps WHERE path = '1'") == [(None,)]

    bench.engine.resume(run)

    assert bench.query("SELECT due_at > now() + interval '55 s' FROM steps WHERE path = '1'") == [(True,)]


def test_the_end_of_the_runs_time_ends_its_waits(bench: Bench) -> None:
    run = started(bench, workflow("w", approve("publish") >> A, timeout=60.0))
    bench.query("UPDATE runs SET due_at = now()")

    bench.fire()

    assert bench.end(run).state is RunState.FAILED
    assert waits(bench, run) == {}
    assert_told(bench, run)
    # And it is asked again when the run is resumed
    bench.engine.resume(run)
    assert list(waits(bench, run)) == ["0"]


def test_a_join_that_waits_no_longer_withdraws_what_was_asked(bench: Bench) -> None:
    run = started(bench, fan_out(a=approve("publish"), b=A, join=B, require=1, within=60), 1)
    wait = waits(bench, run)["0/a"]
    bench.query("UPDATE steps SET due_at = now() WHERE path = '0'")

    bench.fire()
    bench.drain()

    assert bench.end(run).output == {"a": None, "b": 1}
    assert end(bench, approving(wait)) == frozenset()


def test_a_fork_asks_for_itself(bench: Bench) -> None:
    # Given a run that was approved, and one that waits beside something else
    run = started(bench, A >> approve("publish") >> B, 1)
    end(bench, approving(waits(bench, run)["1"], output=2))
    beside = started(bench, fan_out(a=approve("publish"), b=A), 1)

    # When they are forked
    before, at, after = new_id(), new_id(), new_id()
    bench.messages += bench.engine.fork(run, "1", at)
    bench.messages += bench.engine.fork(run, "2", after)
    bench.messages += bench.engine.fork(beside, "0/b", before)
    bench.drain()

    # Then what was decided before is kept, and what is open is asked anew
    assert bench.end(after).output == 2
    assert list(waits(bench, at)) == ["1"]
    assert list(waits(bench, before)) == ["0/a"]
    assert list(waits(bench, beside)) == ["0/a"]
    for one in (before, at, after):
        assert_told(bench, one)


def test_a_run_that_begins_with_a_wait_has_started_and_is_not_resumed(bench: Bench) -> None:
    run = started(bench, approve("publish") >> A)
    assert bench.query("SELECT state, started_at IS NOT NULL FROM runs") == [("running", True)]
    assert bench.kinds(run)[:3] == ["run.submitted", "run.started", "step.waiting"]

    with pytest.raises(Conflict):
        bench.engine.resume(run)


def test_a_confidence_that_is_no_number_is_for_people_to_judge(bench: Bench) -> None:
    unsure = approve("p", confidence="double(input.sure)", threshold=0.5)
    for sure in ("nan", "inf", "-inf"):
        run = bench.submit(workflow("w", A >> unsure))
        bench.drain(lambda *_, sure=sure: {"sure": sure})
        assert bench.states(run) == {"0": "done", "1": "waiting"}
