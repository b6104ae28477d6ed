"""The next stage of a pipeline may be claimed together with the outcome of the one before it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import fan_out, workflow
from orchestrator.engine import Claimed, Onward, Pointer, Recorded, Refused
from tests.integration.engine.bench import Bench, done, named

A, B, C = (named(name) for name in "abc")


def record(bench: Bench, claimed: Claimed, output: object, *agents: str) -> Recorded:
    """The end of an attempt, by a worker that would run the next stage if it is one of these agents'."""
    finished = replace(done(claimed, output), onward=Onward(claimed, frozenset(agents)))
    return bench.engine.record(finished)


def test_the_next_stage_starts_with_the_outcome_as_its_input(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B >> C), 1, tenant="acme")
    first = bench.claim(run, "0")

    recorded = record(bench, first, 2, "b", "c")

    assert recorded.accepted
    assert recorded.ready == ()
    assert recorded.next is not None
    assert (recorded.next.path, recorded.next.attempt, recorded.next.input) == ("1", 1, "2")
    assert (recorded.next.intent, recorded.next.tenant) == ("1", "acme")
    assert bench.states(run) == {"0": "done", "1": "running"}
    assert bench.kinds(run, "1") == ["step.started"]
    last = record(bench, recorded.next, 3, "b", "c").next
    assert last is not None
    assert last.path == "2"
    assert record(bench, last, 4, "a").next is None
    assert bench.end(run).output == 4


def test_it_is_held_by_the_worker_that_claimed_it(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    first = bench.claim(run, "0")

    following = record(bench, first, 1, "b").next

    assert following is not None
    assert isinstance(bench.engine.claim(Pointer(run, "1")), Refused)
    assert (run, "1", 1) in [tuple(one[:3]) for one in bench.engine.holdings()]
    assert bench.engine.release(Pointer(run, "1"), 1)
    assert not record(bench, following, 1).accepted
    assert bench.claim(run, "1").attempt == 2


@pytest.mark.parametrize(
    ("agents", "body"),
    [((), A >> B), (("c",), A >> B), (("b", "c"), A >> fan_out(B, C)), (("a",), A)],
)
def test_what_the_worker_does_not_run_is_sent_as_ever(
    bench: Bench, agents: tuple[str, ...], body: object
) -> None:
    run = bench.submit(workflow("w", body))  # type: ignore[arg-type]
    first = bench.claim(run, "0")

    recorded = record(bench, first, 1, *agents)

    assert recorded.next is None
    ended = bench.view(run).state == "completed"
    assert ended or {one.path for one in recorded.ready} <= {"1", "1/b", "1/c"}
    assert ended or recorded.ready


def test_an_outcome_that_comes_twice_claims_once(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    first = bench.claim(run, "0")
    finished = replace(done(first, 1), onward=Onward(first, frozenset("b")))

    answers = bench.engine.record_all([finished, finished]) + bench.engine.record_all([finished])

    assert [one.next is not None for one in answers].count(True) == 1
    assert bench.query("SELECT attempt FROM steps WHERE run_id = %s AND path = '1'", run) == [(1,)]


def paused(bench: Bench, run: UUID) -> None:
    bench.engine.pause(run, "a test")


def overdue(bench: Bench, run: UUID) -> None:
    bench.query("UPDATE runs SET due_at = clock_timestamp() WHERE id = %s", run)


@pytest.mark.parametrize("halt", [paused, overdue])
def test_nothing_goes_on_in_a_run_that_stands_still_or_is_over(bench: Bench, halt: object) -> None:
    run = bench.submit(workflow("w", A >> B))
    first = bench.claim(run, "0")
    halt(bench, run)  # type: ignore[operator]

    recorded = record(bench, first, 1, "b")

    assert recorded.accepted
    assert recorded.next is None
    assert bench.states(run) == {"0": "done", "1": "ready"}
