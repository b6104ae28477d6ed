"""Limits of calls inside attempts: never exceeded, given back, and what waits has its turn."""

from __future__ import annotations

import os
from itertools import pairwise
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.vocabulary import each, workflow
from orchestrator.engine import Claimed, Engine, Finished, Pointer, Wanted, WorkerId
from orchestrator.engine.call_limits import Admission, CallBefore
from orchestrator.engine.gates import bars
from orchestrator.engine.journals import Entry
from orchestrator.engine.values import WorkerBeat
from orchestrator.recovery import RARELY, Recovery
from orchestrator.store.connect import Pool
from schemas.limits import Limit
from schemas.outcomes import Limited
from schemas.usage import Usage
from tests.integration.engine.attackers import besiege
from tests.integration.engine.bench import Bench, done, named

WORK = workflow("work", each(named("work")))
ONE = Limit(concurrency=1)


def before(claimed: Claimed, *limits: Limit, place: int = 0, tool: str = "bell") -> CallBefore:
    """A call of a tool with these limits."""
    given = tuple(bars(f"tool {tool}", limits, claimed.tenant, claimed.input, "calls"))
    return CallBefore(claimed.run.id, claimed.path, claimed.attempt, place, given)


def ask(bench: Bench, *calls: CallBefore, engine: Engine | None = None) -> list[Admission]:
    """Whether these may be made; steps that are woken by it are under way."""
    verdicts, woken = (engine or bench.engine).admit_calls(calls)
    bench.messages += woken
    return verdicts


def passes(bench: Bench, *calls: CallBefore) -> int:
    return sum(one.passes for one in ask(bench, *calls))


def put_off(bench: Bench, claimed: Claimed, verdict: Admission, usage: Usage | None = None) -> None:
    """End an attempt that has to wait for long."""
    outcome = Limited(limit=verdict.limit, due_in=verdict.due_in, usage=usage or Usage())
    answer = bench.engine.record(Finished(claimed.run.id, claimed.path, claimed.attempt, outcome))
    assert answer.accepted
    assert not answer.ready


def working(bench: Bench, number: int, **options: Any) -> list[Claimed]:
    """Attempts that run."""
    run = bench.submit(WORK, list(range(number)), **options)
    return [bench.claim(run, f"0/{index}") for index in range(number)]


# --- so many at a time ----------------------------------------------------------------------------------------------


def test_no_more_calls_are_made_at_a_time_in_one_batch_or_several(bench: Bench) -> None:
    calls = [before(one, Limit(concurrency=3)) for one in working(bench, 6)]

    assert passes(bench, *calls[:2]) == 2
    assert passes(bench, *calls[2:]) == 1


def test_tools_and_models_whose_limits_bear_one_name_count_together(bench: Bench) -> None:
    shared = Limit(name="acme", concurrency=2)
    one, two, three, four = working(bench, 4)

    assert passes(bench, before(one, shared, tool="bell"), before(two, shared, tool="horn")) == 2
    (verdict,) = ask(bench, before(three, shared, tool="drum"))
    assert (verdict.passes, verdict.limit) == (False, "concurrency of calls under acme")
    # Steps under that name are counted by themselves: one that holds a place waits for no other
    steps = Wanted(Pointer(bench.submit(WORK, [1]), "0/0"), "work", (shared,))
    assert isinstance(bench.engine.claim_within(steps), Claimed)
    assert passes(bench, before(four, tool="drum")) == 1


def test_calls_of_one_attempt_count_one_by_one(bench: Bench) -> None:
    (one,) = working(bench, 1)

    assert passes(bench, *[before(one, Limit(concurrency=2), place=place) for place in range(3)]) == 2


def test_a_call_that_has_ended_gives_its_place_back(bench: Bench) -> None:
    first, second = (before(one, ONE) for one in working(bench, 2))
    ask(bench, first)
    assert passes(bench, second) == 0

    bench.engine.give_back([first])

    assert passes(bench, second) == 1


def test_a_question_whose_answer_was_lost_may_be_asked_again(bench: Bench) -> None:
    (call,) = (before(one, ONE) for one in working(bench, 1))

    assert [passes(bench, call), passes(bench, call)] == [1, 1]
    assert bench.query("SELECT count(*) FROM permits") == [(1,)]


def test_a_place_ends_with_its_attempt_however_that_ends(bench: Bench) -> None:
    first, second = working(bench, 2)
    ask(bench, before(first, ONE))
    bench.finish(first)

    assert passes(bench, before(second, ONE)) == 1


def test_an_attempt_that_runs_no_more_may_call_nothing(bench: Bench) -> None:
    (one,) = working(bench, 1)
    bench.engine.release(Pointer(one.run.id, one.path))

    (verdict,) = ask(bench, before(one, ONE))

    assert verdict.stopped
    assert bench.query("SELECT count(*) FROM permits") == [(0,)]


def test_what_a_dead_worker_held_is_free_again(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    bench.engine.beat(WorkerBeat(bench.engine.me, ("agent.work",), 1, "threads", lease=60.0), 0)
    dying = Engine(bench.pool, WorkerId(uuid4(), "dying"))
    dying.beat(WorkerBeat(dying.me, ("agent.work",), 1, "threads", lease=-1.0), 0)
    ask(bench, before(bench.claim(run, "0/0", dying), ONE), engine=dying)
    second = bench.claim(run, "0/1")
    assert passes(bench, before(second, ONE)) == 0

    recovery = Recovery(bench.engine, bench, patience=0.0)  # type: ignore[arg-type]
    for _ in range(RARELY):
        recovery.sweep()

    assert passes(bench, before(second, ONE)) == 1


def test_tenants_and_keys_have_their_own(bench: Bench) -> None:
    each_tenant = Limit(per="tenant", concurrency=1)
    calls = [before(one, each_tenant) for tenant in ("a", "b") for one in working(bench, 2, tenant=tenant)]
    assert passes(bench, *calls) == 2

    run = bench.submit(WORK, [{"to": "x"}, {"to": "x"}, {"to": "y"}])
    each_key = Limit(per="key", key="input.to", concurrency=1)
    letters = [before(bench.claim(run, f"0/{n}"), each_key, tool="letter") for n in range(3)]
    assert [one.passes for one in ask(bench, *letters)] == [True, False, True]


def test_a_call_takes_nothing_of_one_limit_if_another_one_is_used_up(bench: Bench) -> None:
    first, second, third = working(bench, 3)
    both = (ONE, Limit(rate="1/h", burst=2))
    assert passes(bench, before(first, *both), before(second, *both)) == 1

    bench.engine.give_back([before(first, *both)])

    assert passes(bench, before(second, *both)) == 1
    assert passes(bench, before(third, Limit(rate="1/h", burst=2))) == 0


# --- so many per time -----------------------------------------------------------------------------------------------


def test_calls_are_spaced_and_told_when(bench: Bench) -> None:
    answers = ask(bench, *[before(one, Limit(rate="10/s")) for one in working(bench, 4)])

    assert [one.passes for one in answers] == [True, False, False, False]
    assert all(one.certain for one in answers[1:])
    assert [one.due_in for one in answers[1:]] == pytest.approx([0.1, 0.2, 0.3], abs=0.05)


# --- who waits for long ---------------------------------------------------------------------------------------------


def test_a_step_that_waits_costs_no_retry_and_tells_what_it_waits_for(bench: Bench) -> None:
    first, second = working(bench, 2)
    ask(bench, before(first, ONE))
    (verdict,) = ask(bench, before(second, ONE))

    put_off(bench, second, verdict, Usage(tokens=5, model_calls=1))

    step = next(step for step in bench.view(second.run.id).steps if step.path == second.path)
    assert (step.state, step.limited) == ("ready", "concurrency of tool bell")
    assert bench.query("SELECT retries, losses FROM steps WHERE path = '0/1'") == [(0, 0)]
    (told,) = [event for event in bench.events(second.run.id) if event.kind == "step.limited"]
    assert told.data["limit"] == "concurrency of tool bell"
    assert told.data["due_in"] == pytest.approx(5.0, abs=0.1)
    assert told.data["usage"]["tokens"] == 5
    assert bench.view(second.run.id).totals.usage.tokens == 5


def test_a_place_that_is_given_back_wakes_who_waits_for_it(bench: Bench) -> None:
    first, second, third = working(bench, 3)
    ask(bench, before(first, ONE))
    for one in (second, third):
        put_off(bench, one, ask(bench, before(one, ONE))[0])

    woken = bench.engine.give_back([before(first, ONE)])

    assert [one.path for one in woken] == [second.path]
    again = bench.claim(second.run.id, second.path)
    assert again.attempt == 2
    assert again.retries == 0
    assert passes(bench, before(again, ONE)) == 1


def test_who_comes_later_does_not_pass_who_waits(bench: Bench) -> None:
    first, second, third = working(bench, 3)
    ask(bench, before(first, ONE))
    put_off(bench, second, ask(bench, before(second, ONE))[0])
    bench.engine.give_back([before(first, ONE)])

    assert passes(bench, before(third, ONE)) == 0
    again = bench.claim(second.run.id, second.path)
    assert passes(bench, before(again, ONE)) == 1


def test_having_waited_once_counts_for_one_call(bench: Bench) -> None:
    first, second, third = working(bench, 3)
    ask(bench, before(first, ONE))
    for one in (second, third):
        put_off(bench, one, ask(bench, before(one, ONE))[0])
    bench.engine.give_back([before(first, ONE)])
    again = bench.claim(second.run.id, second.path)
    ask(bench, before(again, ONE))
    assert bench.engine.write_journal(again, 0, Entry("tool bell", "1"))
    bench.engine.give_back([before(again, ONE)])

    assert passes(bench, before(again, ONE, place=1)) == 0


def test_who_finds_room_that_nobody_told_of_wakes_who_waits(bench: Bench) -> None:
    first, second, third = working(bench, 3)
    ask(bench, before(first, ONE))
    put_off(bench, second, ask(bench, before(second, ONE))[0])
    bench.messages.clear()
    bench.finish(first)  # it died, say: its call was never given back

    assert passes(bench, before(third, ONE)) == 0
    assert [one.path for one in bench.messages] == [second.path]


def test_nobody_is_woken_twice(bench: Bench) -> None:
    first, second, third = working(bench, 3)
    ask(bench, before(first, ONE))
    for one in (second, third):
        put_off(bench, one, ask(bench, before(one, ONE))[0])

    assert len(bench.engine.give_back([before(first, ONE)])) == 1
    assert bench.engine.give_back([before(first, ONE)]) == []


# --- many processes, some of them killed ----------------------------------------------------------------------------


def attack(url: str, run: UUID, together: Barrier, limits: tuple[Limit, ...], hold: float) -> None:
    """Make two calls in each step there is, from a process of its own, and write down when they began and ended."""
    pool = Pool(url, size=2)
    engine = Engine(pool, WorkerId(uuid4(), f"attacker-{os.getpid()}"))
    beat = WorkerBeat(engine.me, ("agent.work",), 4, "threads", lease=2.0)
    together.wait(60)
    while True:
        engine.beat(beat, 0)
        with pool.connection() as conn:
            rows = conn.execute(
                "SELECT path FROM steps WHERE run_id = %s AND agent = 'work' AND state = 'ready'"
                " AND (due_at IS NULL OR due_at <= clock_timestamp()) ORDER BY random() LIMIT 3",
                [run],
            ).fetchall()
            left = conn.execute(
                "SELECT count(*) FROM steps WHERE run_id = %s AND agent = 'work' AND state IN ('ready', 'running')",
                [run],
            ).fetchone()
        if left == (0,):
            return
        answers = engine.claim_all([Pointer(run, path) for (path,) in rows])
        mine = [one for one in answers if isinstance(one, Claimed)]
        calls = [before(one, *limits, place=place) for one in mine for place in (0, 1)]
        made = set[tuple[str, int]]()
        for _ in range(400):
            engine.beat(beat, 0)
            todo = [call for call in calls if (call.path, call.place) not in made]
            if not todo:
                break
            verdicts, _ = engine.admit_calls(todo)
            passed = [call for call, one in zip(todo, verdicts, strict=True) if one.passes]
            with pool.connection() as conn:
                for call in passed:
                    conn.execute(
                        "INSERT INTO called VALUES (%s, %s, %s, clock_timestamp())",
                        [call.path, call.attempt, call.place],
                    )
                conn.execute("SELECT pg_sleep(%s)", [hold if passed else 0.005])
                for call in passed:
                    conn.execute(
                        "UPDATE called SET ended = clock_timestamp() WHERE path = %s AND attempt = %s AND place = %s",
                        [call.path, call.attempt, call.place],
                    )
            made |= {(call.path, call.place) for call in passed}
            if passed:
                engine.give_back(passed)
        ended = [one for one in mine if {(one.path, 0), (one.path, 1)} <= made]
        if ended:
            engine.record_all([done(one, 1) for one in ended])


def create_log(bench: Bench) -> None:
    """The table in which attackers write down their calls."""
    bench.query(
        "CREATE TABLE called (path text, attempt int, place int, began timestamptz, ended timestamptz)"
    )


def test_processes_that_attack_a_concurrency_never_exceed_it(bench: Bench, migrated: str) -> None:
    run = bench.submit(WORK, list(range(30)))

    create_log(bench)
    besiege(bench, attack, migrated, run, (Limit(concurrency=3),), kill=2)

    # What a killed process had begun ended with its attempt, at the latest.
    rows = bench.query(
        "SELECT c.began, coalesce(c.ended, a.finished_at) FROM called c"
        " JOIN attempts a ON a.run_id = %s AND a.path = c.path AND a.attempt = c.attempt",
        run,
    )
    turns = sorted([(began, 1) for began, _ in rows] + [(ended, -1) for _, ended in rows])
    most = present = 0
    for _, change in turns:
        present += change
        most = max(most, present)
    assert most == 3
    assert len(rows) >= 60
    assert bench.query("SELECT count(*) FROM steps WHERE agent = 'work' AND state = 'done'") == [(30,)]


def test_processes_that_attack_a_rate_never_exceed_it(bench: Bench, migrated: str) -> None:
    run = bench.submit(WORK, list(range(20)))

    # What is granted is written down by the statement that grants it, so rows tell it to the microsecond.
    bench.query("CREATE TABLE grants (at timestamptz)")
    bench.query(
        "CREATE FUNCTION granted() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO grants VALUES (clock_timestamp()); RETURN NEW; END'"
    )
    bench.query(
        "CREATE TRIGGER granted BEFORE UPDATE OF free_at ON limits FOR EACH ROW EXECUTE FUNCTION granted()"
    )
    create_log(bench)
    besiege(bench, attack, migrated, run, (Limit(rate="40/s"), Limit(concurrency=9)), kill=1)

    at = sorted(moment for (moment,) in bench.query("SELECT at FROM grants"))
    assert len(at) >= 40
    assert min((later - one).total_seconds() for one, later in pairwise(at)) >= 1 / 40
