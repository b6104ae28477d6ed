"""Runs that move on in one transaction: what is wrong with one of them is no concern of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest

from orchestrator.definitions.vocabulary import Composable, approve, each, fan_out, wait_for, workflow
from orchestrator.engine import Claimed, Engine, Finished, Note
from orchestrator.incoming.inbox import Inbox
from schemas.events import EventKind
from schemas.outcomes import Done, Waiting
from schemas.runs import RunState
from schemas.waits import Asking, WaitKind
from tests.integration.engine.bench import Bench, done, named

A, B, C = (named(name) for name in "abc")
UNREADABLE = "1" + "0" * 5_000
"""A number that Postgres stores and Python's json refuses."""


def unreadable(claimed: Claimed) -> Finished:
    return Finished(claimed.run.id, claimed.path, claimed.attempt, Done(), UNREADABLE)


def begun(bench: Bench, name: str, body: Composable) -> UUID:
    """A run whose first step, `0/a` or `0`, gave what cannot be read; its later steps may have been reached."""
    run = bench.submit(workflow(name, body))
    bench.messages.clear()
    (path,) = [path for path in ("0", "0/a") if bench.states(run).get(path) == "ready"]
    bench.messages += bench.engine.record(unreadable(bench.claim(run, path))).ready
    return run


def pass_time(bench: Bench) -> None:
    bench.query("UPDATE steps SET due_at = due_at - interval '61 s' WHERE due_at IS NOT NULL")
    bench.drain()


def test_an_outcome_that_cannot_be_read_fails_its_run_alone(bench: Bench) -> None:
    bad, good = (
        bench.submit(workflow("bad", fan_out(A, B) >> each(C, items="a"))),
        bench.submit(workflow("w", A)),
    )
    bench.finish(bench.claim(bad, "0/b"), 1)

    batch = [done(bench.claim(good, "0"), 1), unreadable(bench.claim(bad, "0/a"))]
    answers = bench.engine.record._execute(batch)

    assert [one.accepted for one in answers] == [True, True]
    assert bench.view(good).state is RunState.COMPLETED
    assert bench.view(bad).state is RunState.FAILED
    assert bench.states(bad)["0/a"] == "done"


def test_an_outcome_that_no_statement_can_carry_fails_its_step_alone(bench: Bench) -> None:
    bad, good = bench.submit(workflow("w", A)), bench.submit(workflow("w", A))
    asking = Asking(kind=WaitKind.QUESTION, key="what is \ud800?", request={"position": 0, "name": "ask"})
    claimed = bench.claim(bad, "0")
    asked = Finished(bad, "0", claimed.attempt, Waiting(asking=asking))

    answers = bench.engine.record._execute([asked, done(bench.claim(good, "0"), 1)])

    assert [one.accepted for one in answers] == [True, True]
    assert bench.view(good).state is RunState.COMPLETED
    error = bench.view(bad).error
    assert error is not None
    assert error.type == "InvalidOutput"


def test_a_wait_whose_time_ends_in_what_cannot_be_stored_fails_alone(bench: Bench) -> None:
    bad = begun(bench, "bad", A >> wait_for("x", when="event == input"))
    good = bench.submit(workflow("good", wait_for("y")))
    Inbox(bench.pool).emit("x", 1)
    Inbox(bench.pool).emit("y", 1)

    bench.drain()

    assert bench.view(good).state is RunState.COMPLETED
    assert bench.view(bad).state is RunState.FAILED
    assert bench.query("SELECT count(*) FROM wakes") == [(0,)]


def overflowing(bench: Bench) -> None:
    """From now on Postgres refuses what opens an approval."""
    bench.query(
        "ALTER TABLE waits ADD CONSTRAINT none CHECK (kind <> 'approval' OR 1 / length(substr(kind, 100)) = 1)"
    )


def test_an_expiry_whose_end_cannot_be_stored_fails_alone(bench: Bench) -> None:
    overflowing(bench)
    bad = bench.submit(workflow("bad", wait_for("x", within=60, default=1) >> approve("p")))
    good = bench.submit(workflow("good", wait_for("x", within=60, default=1)))

    pass_time(bench)

    assert bench.view(good).state is RunState.COMPLETED
    error = bench.view(bad).error
    assert error is not None
    assert "division by zero" in error.message


def test_an_event_whose_end_cannot_be_stored_fails_its_wait_alone(bench: Bench) -> None:
    overflowing(bench)
    bad = bench.submit(workflow("bad", wait_for("x") >> approve("p")))
    good = bench.submit(workflow("good", wait_for("x")))
    Inbox(bench.pool).emit("x", 1)

    bench.drain()

    assert bench.view(good).state is RunState.COMPLETED
    error = bench.view(bad).error
    assert error is not None
    assert "division by zero" in error.message


def test_a_deadline_whose_end_cannot_be_stored_ends_its_run_alone(bench: Bench) -> None:
    overflowing(bench)
    bad = bench.submit(workflow("bad", fan_out(A, w=wait_for("x"), require="any", within=60) >> approve("p")))
    good = bench.submit(workflow("good", fan_out(A, w=wait_for("x"), require="any", within=60)))
    bench.drain(rounds=2)

    pass_time(bench)

    assert bench.view(good).state is RunState.COMPLETED
    error = bench.view(bad).error
    assert error is not None
    assert "division by zero" in error.message
    assert set(bench.states(bad).values()) <= {"done", "skipped"}


def test_a_note_that_has_no_json_form_fails_its_step_alone(bench: Bench) -> None:
    bad, good = bench.submit(workflow("w", A)), bench.submit(workflow("w", A))
    note = Note(EventKind.PROGRESS, {"by": {("a", "b"): 1}})
    told = replace(done(bench.claim(bad, "0"), 1), notes=(note,))

    answers = bench.engine.record._execute([told, done(bench.claim(good, "0"), 1)])

    assert [one.accepted for one in answers] == [True, True]
    assert [bench.view(run).state for run in (bad, good)] == [RunState.FAILED, RunState.COMPLETED]


def test_a_join_whose_outcome_cannot_be_stored_fails_alone(bench: Bench) -> None:
    # Given two fan-outs whose last branches end while other transactions look at their joins
    overflowing(bench)
    bad = bench.submit(workflow("bad", fan_out(A, B) >> approve("p")))
    good = bench.submit(workflow("good", fan_out(A, B)))
    for run in (bad, good):
        bench.finish(bench.claim(run, "0/a"), 1)
    last = [done(bench.claim(run, "0/b"), 2) for run in (bad, good)]
    with looked_at(bench, bad), looked_at(bench, good), pytest.MonkeyPatch.context() as patched:
        patched.setattr(Engine, "settle", lambda *_: [])
        assert all(one.accepted for one in bench.engine.record_all(last))

    # When recovery looks at both
    bench.sweep()

    # Then one completes, and the other one fails and says why
    assert bench.view(good).state is RunState.COMPLETED
    error = bench.view(bad).error
    assert error is not None
    assert "division by zero" in error.message


def test_outcomes_are_heard_although_what_follows_a_join_beside_them_cannot_be_stored(bench: Bench) -> None:
    overflowing(bench)
    bad, good = (
        bench.submit(workflow("bad", fan_out(A, B) >> approve("p"))),
        bench.submit(workflow("w", A >> C)),
    )
    bench.finish(bench.claim(bad, "0/a"), 1)
    last = [done(bench.claim(bad, "0/b"), 2), done(bench.claim(good, "0"), 1)]
    with looked_at(bench, bad) as release:
        # The join is free when it is looked at again, after the commit.
        look_again = Engine.settle
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Engine, "settle", lambda *given: (release(), look_again(*given))[1])
            answers = bench.engine.record_all(last)

    assert [one.accepted for one in answers] == [True, True]
    assert [ready.path for one in answers for ready in one.ready] == ["1"]
    assert bench.view(bad).state is RunState.FAILED


@contextmanager
def looked_at(bench: Bench, run: UUID) -> Iterator[Callable[[], None]]:
    """Somebody looks at the join of this run's first stage, until they are told to stop."""
    with psycopg.connect(bench.url) as other:
        other.execute("SELECT pg_advisory_xact_lock(7002, hashtext(%s || '0'))", [str(run)])
        yield other.rollback
