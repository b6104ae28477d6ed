"""Steps that wait for events: whichever is first, the two meet; once, and without a worker."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from psycopg import OperationalError
from pydantic import BaseModel

from orchestrator.definitions.reactions import on
from orchestrator.definitions.vocabulary import (
    Composable,
    each,
    fan_out,
    loop,
    route,
    rule,
    wait_for,
    workflow,
)
from orchestrator.engine.waking import Waking
from orchestrator.identify import new_id
from orchestrator.incoming.inbox import Inbox
from orchestrator.incoming.subscriptions import Subscriptions
from orchestrator.prune import Pruner, Rule
from orchestrator.store import delivery_queries, waking_queries
from schemas.errors import DefinitionError
from schemas.events import EventKind
from tests.integration.engine.bench import Bench, named
from tests.integration.engine.test_timers import Copy
from tests.integration.engine.test_waits import assert_told, later, started
from tests.support import eventually

A, B, C = (named(name) for name in "abc")
DEATH = "SELECT pg_terminate_backend(pg_backend_pid())"
PAID = wait_for("payment.settled", key="input.order")


class Payment(BaseModel):
    amount: int


def emit(bench: Bench, type: str = "payment.settled", payload: Any = None, **fields: Any) -> None:
    """An event comes, and is dealt with."""
    Inbox(bench.pool).emit(type, payload, **fields)
    bench.drain()


def warnings(bench: Bench, run: UUID) -> list[str]:
    return [e.data["message"] for e in bench.events(run) if e.kind is EventKind.STEP_WARNING]


# --- the two meet -----------------------------------------------------------------------------------------


def test_an_event_ends_the_wait_and_its_payload_goes_on(bench: Bench) -> None:
    run = started(bench, A >> PAID >> B, {"order": "o-7"})
    assert bench.states(run) == {"0": "done", "1": "waiting"}
    assert bench.query("SELECT kind, key FROM waits") == [("event", "payment.settled o-7")]
    assert bench.view(run).notes == (
        "step 1 waits for the event payment.settled o-7: baton events emit payment.settled --key o-7",
    )

    emit(bench, payload={"amount": 5}, key="o-7", id="p-1")

    assert bench.end(run).output == {"amount": 5}
    (decided,) = [e.data for e in bench.events(run) if e.kind is EventKind.STEP_DECIDED]
    assert (decided["choice"], decided["by"]) == ("p-1", "event")
    assert_told(bench, run)
    assert bench.query("SELECT settled_by FROM waits") == [("event 1",)]


def test_an_event_that_came_before_its_waiter_is_not_lost(bench: Bench) -> None:
    emit(bench, payload="before the run", key="o-7")
    run = bench.submit(workflow("w", A >> PAID >> B), {"order": "o-7"})
    emit(bench, payload="other", key="o-8")
    Inbox(bench.pool).emit("payment.settled", "first", key="o-7")
    Inbox(bench.pool).emit("payment.settled", "second", key="o-7")

    bench.drain()

    assert bench.end(run).output == "first"
    assert_told(bench, run)


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        ("payment.failed", {"key": "o-7"}),
        ("payment.settled", {"key": "o-8"}),
        ("payment.settled", {}),
        ("payment.settled", {"key": "o-7", "tenant": "other"}),
    ],
)
def test_an_event_that_is_not_meant_ends_nothing(bench: Bench, type: str, fields: dict[str, Any]) -> None:
    run = started(bench, PAID, {"order": "o-7"})

    emit(bench, type, 1, **fields)

    assert bench.states(run) == {"0": "waiting"}
    assert bench.query("SELECT count(*) FROM wakes") == [(0,)]


def test_without_a_key_an_event_of_any_key_is_meant(bench: Bench) -> None:
    run, other = started(bench, wait_for("x")), started(bench, wait_for("x"))

    emit(bench, "x", 1, key="anything")

    assert (bench.end(run).output, bench.end(other).output) == (1, 1)


def test_a_condition_chooses_among_events(bench: Bench) -> None:
    run = started(bench, wait_for("x", when="event.n > input.n"), {"n": 5})

    emit(bench, "x", {"n": 5})
    emit(bench, "x", {"n": 6})

    assert bench.end(run).output == {"n": 6}
    assert warnings(bench, run) == []


@pytest.mark.parametrize("early", [True, False])
def test_an_event_that_cannot_be_judged_is_passed_over_with_a_warning(bench: Bench, early: bool) -> None:
    body = A >> wait_for("x", when="event.amount > 3", output=Payment)
    run = bench.submit(workflow("w", body), 1)
    if not early:
        bench.drain()
    for number, payload in enumerate(("no object", {"other": 1}, {"amount": 4.5}, {"amount": 9})):
        emit(bench, "x", payload, id=f"e-{number}")
    bench.drain()

    assert bench.end(run).output == {"amount": 9}
    found = warnings(bench, run)
    assert [told.partition(" was")[0] for told in found] == [f"the event e-{n}" for n in range(3)]
    assert "does not fit" in found[2]


def test_how_far_back_an_event_counts_can_be_said(bench: Bench) -> None:
    emit(bench, "x", "long ago", id="old")
    bench.query("UPDATE incoming_events SET at = at - interval '100 s'")
    emit(bench, "x", "before")

    far = started(bench, wait_for("x", lookback=3600))
    near = started(bench, wait_for("x", lookback=60))
    never = started(bench, wait_for("x", lookback=0))

    assert (bench.end(far).output, bench.end(near).output) == ("long ago", "before")
    assert bench.states(never) == {"0": "waiting"}


def test_many_earlier_events_are_looked_through(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.engine.waking.PAGE", 7)
    run = bench.submit(workflow("w", A >> wait_for("x", when="event == 40")), 1)
    for number in range(50):
        Inbox(bench.pool).emit("x", number)

    bench.drain()

    assert bench.end(run).output == 40


# --- who waits again waits for another one ----------------------------------------------------------------


@pytest.mark.parametrize("early", [True, False])
def test_steps_after_each_other_take_one_event_each(bench: Bench, early: bool) -> None:
    body = wait_for("x") >> wait_for("x") >> loop(wait_for("x"), until="round == 2", max_rounds=5)
    run = bench.submit(workflow("w", body), 1)
    if not early:
        bench.drain()
    for number in range(3):
        emit(bench, "x", number)
    assert bench.states(run)["2/1"] == "waiting"

    emit(bench, "x", 3)

    assert bench.end(run).output == 3
    outputs = dict(bench.query("SELECT path, output FROM steps WHERE kind = 'wait_for'"))
    assert outputs == {"0": 0, "1": 1, "2/0": 2, "2/1": 3}
    assert_told(bench, run)


@pytest.mark.parametrize("early", [True, False])
def test_steps_beside_each_other_take_the_same_event(bench: Bench, early: bool) -> None:
    body = fan_out(
        one=wait_for("x"), two=A >> wait_for("x"), three=each(wait_for("x"), items="list", parallel=1)
    )
    run = bench.submit(workflow("w", body), {"list": [1, 2]})
    if not early:
        bench.drain(rounds=1)
    emit(bench, "x", 7)

    assert bench.end(run).output == {
        "one": 7,
        "two": 7,
        "three": {"results": [7, 7], "gaps": []},
        "gaps": [],
    }


def test_a_forked_run_sees_the_events_of_the_run_that_it_comes_from(bench: Bench) -> None:
    run = started(bench, wait_for("x") >> A >> wait_for("x") >> B)
    emit(bench, "x", 1)
    emit(bench, "x", 2)
    assert bench.end(run).output == 2
    forks = []
    for step in ("2", "0"):
        fork = new_id()
        bench.messages += bench.engine.fork(run, step, fork)
        bench.drain()
        forks.append(bench.end(fork).output)

    assert forks == [2, 2]


# --- its time ---------------------------------------------------------------------------------------------


def test_a_wait_fails_when_its_time_is_over(bench: Bench) -> None:
    run = started(bench, wait_for("x", key="input", within=60), "k")
    later(bench, run, 59)
    assert bench.states(run) == {"0": "waiting"}

    later(bench, run, 2)

    error = bench.end(run).error
    assert error is not None
    assert (error.type, error.message) == ("Expired", "no event x k has come within 60 s")
    assert_told(bench, run)
    emit(bench, "x", 1, key="k")
    assert bench.end(run).state == "failed"
    bench.messages += bench.engine.resume(run)
    bench.drain()
    assert bench.end(run).output == 1  # it looks back


def test_a_wait_gives_its_default_when_its_time_is_over(bench: Bench) -> None:
    run = started(bench, wait_for("x", within=60, default=None) >> A)
    other = started(bench, wait_for("x", within=60).optional() >> A, 3)
    for one in (run, other):
        later(bench, one, 61)

    assert (bench.end(run).output, bench.view(run).degraded) == (None, False)
    assert (bench.end(other).output, bench.view(other).degraded) == (3, True)
    assert_told(bench, run)


def test_a_paused_run_takes_events_but_starts_nothing_and_its_clock_stands_still(bench: Bench) -> None:
    run = started(bench, wait_for("x", within=60) >> A)
    still = started(bench, wait_for("y", within=60) >> A)
    for one in (run, still):
        bench.engine.pause(one)
    emit(bench, "x", 1)
    bench.query("UPDATE steps SET due_at = due_at - interval '100 s'")
    bench.drain()
    assert (bench.states(run), bench.states(still)) == ({"0": "done", "1": "ready"}, {"0": "waiting"})

    for one in (run, still):
        bench.messages += bench.engine.resume(one)
    emit(bench, "y", 2)

    assert (bench.end(run).output, bench.end(still).output) == (1, 2)
    assert_told(bench, still)


def test_a_cancelled_run_waits_no_more(bench: Bench) -> None:
    run = started(bench, wait_for("x") >> A)
    Inbox(bench.pool).emit("x", 1)
    bench.engine.cancel(run)

    bench.drain()

    assert bench.end(run).state == "cancelled"
    assert bench.states(run) == {"0": "cancelled"}
    assert bench.query("SELECT count(*) FROM wakes") == [(0,)]


def test_the_deadline_of_a_fan_out_goes_on_without_those_that_wait(bench: Bench) -> None:
    run = started(bench, fan_out(a=wait_for("x"), b=B, within=60, require=1))
    bench.query("UPDATE steps SET due_at = due_at - interval '61 s' WHERE kind = 'fan_out'")
    bench.drain()

    assert bench.end(run).output["gaps"][0]["branch"] == "a"
    emit(bench, "x", 1)
    assert_told(bench, run)


def test_a_delayed_run_waits_from_its_time_on(bench: Bench) -> None:
    run = bench.submit(workflow("w", wait_for("x", within=60)), 1, delay=100.0)
    assert bench.query("SELECT kind FROM waits") == [("delay",)]
    emit(bench, "x", "early")
    later(bench, run, 101)

    assert bench.end(run).output == "early"
    assert_told(bench, run)


# --- whoever looks, and when ------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [True, False])
def test_a_copy_that_dies_leaves_all_of_it_to_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    run = bench.submit(workflow("w", wait_for("x") >> A), 1)
    if not early:
        bench.fire()
    Inbox(bench.pool).emit("x", 1)
    monkeypatch.setattr(waking_queries, "NOTE_LOOKED" if early else "DELETE_WAKES", DEATH)
    with pytest.raises(OperationalError, match="terminating"):
        bench.fire()
    assert bench.states(run) == {"0": "waiting"}
    monkeypatch.undo()

    bench.drain()

    assert bench.end(run).output == 1


def test_events_and_waits_of_many_copies_all_meet(bench: Bench) -> None:
    # Given runs and the events that they wait for, in any order
    flow = workflow("w", wait_for("x", key="input", lookback=3600) >> A)
    keys = [f"k{number}" for number in range(60)]
    acts = [(act, key) for key in keys for act in ("run", "event")]
    random.Random(7).shuffle(acts)
    runs: dict[str, UUID] = {}
    inbox, sent = Inbox(bench.pool), list[tuple[float, Any]]()

    # When three copies look meanwhile
    with Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent):
        for act, key in acts:
            if act == "run":
                runs[key] = bench.submit(flow, key)
            else:
                inbox.emit("x", f"of {key}", key=key)
        eventually(lambda: len(sent) >= 60, timeout=60)

    # Then each run has its event, and went on once
    bench.messages = [one for _, one in sent]
    bench.drain()
    assert {key: bench.end(run).output for key, run in runs.items()} == {key: f"of {key}" for key in keys}
    assert len(sent) == 60
    assert bench.query("SELECT count(*) FROM wakes") == [(0,)]


def test_an_event_starts_a_run_and_wakes_another(bench: Bench) -> None:
    run = started(bench, wait_for("x"))
    Subscriptions(bench.pool, bench.engine.plans).deploy([on("x", start=workflow("s", A))])

    emit(bench, "x", 1)

    assert bench.end(run).output == 1
    assert bench.query("SELECT state FROM runs WHERE workflow = 's'") == [("completed",)]


def test_what_this_process_cannot_read_waits_for_one_that_can(bench: Bench) -> None:
    run = started(bench, wait_for("x") >> A)
    readable = started(bench, wait_for("x") >> B)
    broken = bench.plan(run).id
    bench.query("UPDATE definitions SET body = '{}' WHERE id = %s", broken)
    other = Waking(bench.pool)
    Inbox(bench.pool).emit("x", 1)
    with bench.pool.connection() as conn:
        conn.execute(delivery_queries.SPREAD, {"most": 10})

    other.wake()
    assert (bench.states(run), bench.states(readable)["0"]) == ({"0": "waiting"}, "done")
    bench.drain()  # which knew it before
    assert bench.end(run).output == 1


def test_waits_go_with_their_runs(bench: Bench) -> None:
    run = started(bench, wait_for("x"))
    Inbox(bench.pool).emit("x", 1)
    with bench.pool.connection() as conn:
        conn.execute(delivery_queries.SPREAD, {"most": 10})
    bench.engine.cancel(run)

    list(Pruner(bench.url, Rule(0.0)).batches())

    assert bench.query("SELECT count(*) FROM waits") == [(0,)]
    assert bench.query("SELECT count(*) FROM wakes") == [(0,)]


# --- in any place -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        wait_for("x") >> A,
        each(wait_for("x"), parallel=1) >> A,
        each(A >> wait_for("x"), join=B),
        fan_out(a=wait_for("x"), b=A, c=wait_for("x") >> B, join=C),
        route(yes=wait_for("x"), no=A, rules=[rule("r", go="yes", when="size(input) == 2")], fallback="no"),
        loop(A >> wait_for("x"), until="round == 2", max_rounds=3),
        wait_for("x").when("size(input) == 2") >> A,
        wait_for("y", within=0.01).otherwise(wait_for("x")),
        wait_for("x") >> each(wait_for("x", key="string(input)")),
    ],
)
def test_it_stands_anywhere_and_the_events_tell_all_of_it(bench: Bench, body: Composable) -> None:
    run = started(bench, body, [1, 2])
    for _ in range(20):
        if bench.views.end(run) is not None:
            break
        assert_told(bench, run)
        for key in (None, "1", "2"):
            emit(bench, "x", [1, 2], key=key)
        bench.fire()

    assert bench.end(run).state == "completed"
    assert_told(bench, run)


# --- what is refused --------------------------------------------------------------------------------------


def _refused() -> Iterator[tuple[Any, str]]:
    yield lambda: wait_for("a b"), "type"
    yield lambda: wait_for("x", within=0), "within"
    yield lambda: workflow("w", wait_for("x", key="event.y", when="output.z")), "event"
    yield lambda: workflow("w", wait_for("x", default=1)), "within"
    yield lambda: workflow("w", wait_for("x", within=1, default="a", output=Payment)), "does not fit"
    takes = named("t", takes={"type": "object", "properties": {"z": {}}, "required": ["z"]})
    yield lambda: workflow("w", wait_for("x", output=Payment) >> takes), "z"


@pytest.mark.parametrize(("make", "fault"), list(_refused()))
def test_what_could_not_work_is_refused(make: Any, fault: str) -> None:
    with pytest.raises(DefinitionError, match=fault):
        make()


def test_a_key_that_cannot_be_told_fails_the_step(bench: Bench) -> None:
    for value in ({}, {"order": None}, {"order": True}, {"order": "x" * 1_001}):
        run = started(bench, PAID >> A, value)

        error = bench.end(run).error
        assert error is not None
        assert error.type == "ConditionError"
