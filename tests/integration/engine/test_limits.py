"""Limits of the cluster: never exceeded, and what is over one waits for its turn in Postgres."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.vocabulary import each, workflow
from orchestrator.engine import Claimed, Engine, Pointer, Refused, Wanted, WorkerId
from orchestrator.engine.values import WorkerBeat
from orchestrator.prune import Pruner, Rule
from orchestrator.recovery import RARELY, Recovery
from orchestrator.store.connect import Pool
from schemas.errors import DefinitionError
from schemas.limits import Limit
from tests.integration.engine.attackers import besiege
from tests.integration.engine.bench import Bench, done, named
from tests.support import eventually
from workers import agent

WORK = workflow("work", each(named("work")))
FIVE = Limit(concurrency=5)


def over(bench: Bench, run: UUID, path: str, *limits: Limit) -> Claimed | Refused:
    """Claim a step under these limits."""
    return bench.engine.claim_within(Wanted(Pointer(run, path), "work", limits))


def claimed(bench: Bench, run: UUID, paths: Sequence[str], *limits: Limit) -> list[Claimed]:
    """Those of these steps that may start."""
    found = [over(bench, run, path, *limits) for path in paths]
    return [one for one in found if isinstance(one, Claimed)]


def items(number: int) -> list[str]:
    return [f"0/{index}" for index in range(number)]


def hurry(bench: Bench) -> None:
    """Let what waits look again now."""
    bench.query("UPDATE steps SET due_at = clock_timestamp() WHERE due_at IS NOT NULL AND state = 'ready'")


# --- so many at a time ----------------------------------------------------------------------------------------------


def test_no_more_run_at_a_time(bench: Bench) -> None:
    run = bench.submit(WORK, list(range(8)))

    assert len(claimed(bench, run, items(8), FIVE)) == 5


def test_agents_whose_limits_bear_one_name_count_together(bench: Bench) -> None:
    fair = Limit(name="fair", concurrency=3)
    run = bench.submit(WORK, list(range(8)))

    def claim(agent: str, path: str, *limits: Limit) -> Claimed | Refused:
        return bench.engine.claim_within(Wanted(Pointer(run, path), agent, limits))

    answers = [claim(f"a{index % 2}", f"0/{index}", fair) for index in range(4)]
    started = [one for one in answers if isinstance(one, Claimed)]
    assert [one.path for one in started] == items(3)
    assert claim("a1", "0/4", fair) == Refused("it waits for a limit: concurrency of steps under fair")
    # Another name, and none, are other limits
    assert isinstance(claim("a0", "0/5", Limit(name="other", concurrency=1)), Claimed)
    assert isinstance(claim("a0", "0/6", Limit(concurrency=1)), Claimed)

    # And who ends makes room for the next one, whichever agent it is
    bench.finish(started[0])
    assert [one.path for one in bench.engine.make_room(Pointer(run, "0/0"))] == ["0/3"]
    assert isinstance(claim("a1", "0/3", fair), Claimed)


def test_a_limit_that_is_declared_with_two_figures_is_the_smaller_one_in_one_batch(bench: Bench) -> None:
    run = bench.submit(WORK, list(range(8)))
    limits = [Limit(name="fair", concurrency=most) for most in (5, 2)]

    answers = bench.engine.claim_all_within(
        [Wanted(Pointer(run, f"0/{index}"), "work", (limits[index % 2],)) for index in range(8)]
    )

    assert sum(isinstance(one, Claimed) for one in answers) == 2


def test_a_cap_of_each_tenant_over_all_agents(bench: Bench) -> None:
    fair = Limit(name="fair", per="tenant", concurrency=2)
    runs = [bench.submit(WORK, list(range(4)), tenant=tenant) for tenant in ("acme", "acme", "other")]

    answers = [
        bench.engine.claim_within(Wanted(Pointer(run, path), f"agent{index}", (fair,)))
        for index, run in enumerate(runs)
        for path in items(2)
    ]

    assert [isinstance(one, Claimed) for one in answers] == [True, True, False, False, True, True]


def test_one_batch_keeps_to_it_as_well(bench: Bench) -> None:
    run = bench.submit(WORK, list(range(8)))

    answers = bench.engine.claim_all_within(
        [Wanted(Pointer(run, path), "work", (FIVE,)) for path in items(8)]
    )

    assert sum(isinstance(one, Claimed) for one in answers) == 5


def test_who_has_to_wait_is_told_why_and_so_is_who_looks(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    claimed(bench, run, items(1), Limit(concurrency=1))

    answer = over(bench, run, "0/1", Limit(concurrency=1))

    assert answer == Refused("it waits for a limit: concurrency of work")
    step = next(step for step in bench.view(run).steps if step.path == "0/1")
    assert (step.state, step.limited) == ("ready", "concurrency of work")
    assert bench.kinds(run, "0/1") == ["step.limited"]


def test_it_is_told_once_however_often_it_looks(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    claimed(bench, run, items(1), Limit(concurrency=1))
    for _ in range(3):
        over(bench, run, "0/1", Limit(concurrency=1))
        hurry(bench)

    assert bench.kinds(run, "0/1") == ["step.limited"]


def test_a_place_that_becomes_free_is_given_to_who_waits(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    first = claimed(bench, run, items(1), Limit(concurrency=1))[0]
    over(bench, run, "0/1", Limit(concurrency=1))
    bench.finish(first)

    (next_one,) = bench.engine.make_room(Pointer(run, "0/0"))

    assert next_one.path == "0/1"
    assert isinstance(over(bench, run, "0/1", Limit(concurrency=1)), Claimed)


def test_nobody_is_woken_while_the_place_is_taken(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    claimed(bench, run, items(1), Limit(concurrency=1))
    over(bench, run, "0/1", Limit(concurrency=1))
    hurry(bench)

    assert isinstance(over(bench, run, "0/1", Limit(concurrency=1)), Refused)


def test_who_comes_later_does_not_pass_who_waits(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2, 3])
    first = claimed(bench, run, items(1), Limit(concurrency=1))[0]
    over(bench, run, "0/1", Limit(concurrency=1))
    bench.finish(first)

    assert isinstance(over(bench, run, "0/2", Limit(concurrency=1)), Refused)
    hurry(bench)
    assert isinstance(over(bench, run, "0/1", Limit(concurrency=1)), Claimed)


def test_a_paused_run_that_waits_holds_nobody_up(bench: Bench) -> None:
    waiting, other = bench.submit(WORK, [1, 2]), bench.submit(WORK, [1])
    first = claimed(bench, waiting, items(1), Limit(concurrency=1))[0]
    over(bench, waiting, "0/1", Limit(concurrency=1))
    bench.engine.pause(waiting)
    bench.finish(first)

    assert isinstance(over(bench, other, "0/0", Limit(concurrency=1)), Claimed)


def test_a_retry_takes_its_place_anew(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    first = claimed(bench, run, items(1), Limit(concurrency=1))[0]
    bench.fail(first, retry_in=0.0)

    assert isinstance(over(bench, run, "0/1", Limit(concurrency=1)), Claimed)
    assert isinstance(over(bench, run, "0/0", Limit(concurrency=1)), Refused)


def test_what_a_dead_worker_held_is_free_again(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    dying = Engine(bench.pool, WorkerId(uuid4(), "dying"))
    dying.beat(WorkerBeat(dying.me, ("agent.work",), 1, "threads", lease=-1.0), 0)
    assert isinstance(
        dying.claim_within(Wanted(Pointer(run, "0/0"), "work", (Limit(concurrency=1),))), Claimed
    )
    over(bench, run, "0/1", Limit(concurrency=1))

    recovery = Recovery(bench.engine, bench, patience=0.0)  # type: ignore[arg-type]
    for _ in range(RARELY):
        recovery.sweep()
    hurry(bench)

    assert isinstance(over(bench, run, "0/1", Limit(concurrency=1)), Claimed)


def test_a_cancelled_attempt_counts_until_its_worker_has_heard(bench: Bench) -> None:
    run, other = bench.submit(WORK, [1]), bench.submit(WORK, [1])
    claimed(bench, run, items(1), Limit(concurrency=1))
    bench.engine.cancel(run)
    assert isinstance(over(bench, other, "0/0", Limit(concurrency=1)), Refused)

    bench.query("UPDATE steps SET finished_at = finished_at - interval '6 s' WHERE run_id = %s", run)
    hurry(bench)

    assert isinstance(over(bench, other, "0/0", Limit(concurrency=1)), Claimed)


# --- so many per time -----------------------------------------------------------------------------------------------


def test_starts_are_spaced(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2])
    limit = Limit(rate="10/s")
    assert isinstance(over(bench, run, "0/0", limit), Claimed)
    assert isinstance(over(bench, run, "0/1", limit), Refused)

    def passes() -> None:
        assert isinstance(over(bench, run, "0/1", limit), Claimed)

    eventually(passes)
    (one,), (other,) = bench.query("SELECT started_at FROM steps WHERE agent = 'work' ORDER BY path")
    assert (other - one).total_seconds() >= 0.1


def test_a_burst_may_start_at_once(bench: Bench) -> None:
    run = bench.submit(WORK, list(range(5)))

    assert len(claimed(bench, run, items(5), Limit(rate="1/h", burst=3))) == 3


def test_those_who_wait_for_a_rate_are_given_turns(bench: Bench) -> None:
    run = bench.submit(WORK, list(range(5)))
    claimed(bench, run, items(5), Limit(rate="1/s"))

    due = [at for (at,) in bench.query("SELECT due_at FROM steps WHERE limited IS NOT NULL ORDER BY path")]

    assert len(due) == 4
    assert all(0.99 < (later - earlier).total_seconds() < 1.01 for earlier, later in pairwise(due))


def test_a_turn_is_not_taken_by_who_comes_later(bench: Bench) -> None:
    run = bench.submit(WORK, [1, 2, 3])
    claimed(bench, run, items(2), Limit(rate="1/m"))
    bench.query("UPDATE limits SET free_at = clock_timestamp()")
    hurry(bench)

    assert isinstance(over(bench, run, "0/2", Limit(rate="1/m")), Refused)
    assert isinstance(over(bench, run, "0/1", Limit(rate="1/m")), Claimed)


def test_turns_of_those_who_gave_up_are_not_kept(bench: Bench) -> None:
    run, other = bench.submit(WORK, list(range(5))), bench.submit(WORK, [1])
    limit = Limit(rate="10/s")
    claimed(bench, run, items(5), limit)
    bench.engine.cancel(run)

    def passes() -> None:
        assert isinstance(over(bench, other, "0/0", limit), Claimed)

    eventually(passes, timeout=2)


# --- whose ----------------------------------------------------------------------------------------------------------


def test_each_tenant_has_its_own(bench: Bench) -> None:
    limit = Limit(per="tenant", concurrency=1)
    runs = [bench.submit(WORK, [1, 2], tenant=tenant) for tenant in ("a", "b")]

    assert [len(claimed(bench, run, items(2), limit)) for run in runs] == [1, 1]


def test_each_key_has_its_own(bench: Bench) -> None:
    limit = Limit(per="key", key="input.customer", concurrency=1)
    run = bench.submit(WORK, [{"customer": name} for name in ("x", "x", "y")])

    assert [one.path for one in claimed(bench, run, items(3), limit)] == ["0/0", "0/2"]


@pytest.mark.parametrize("value", [None, 1, {}, {"customer": {"deep": 1}}, {"customer": "\u2028" * 500}])
def test_inputs_without_the_key_count_together_and_harm_nobody(bench: Bench, value: Any) -> None:
    limit = Limit(per="key", key="input.customer", concurrency=1)
    run = bench.submit(WORK, [value, value])

    assert len(claimed(bench, run, items(2), limit)) == 1


def test_all_limits_of_an_agent_hold_together(bench: Bench) -> None:
    limits = (Limit(concurrency=3), Limit(per="tenant", concurrency=2), Limit(rate="1/h", burst=10))
    runs = [bench.submit(WORK, list(range(4)), tenant=tenant) for tenant in ("a", "b")]

    assert [len(claimed(bench, run, items(4), *limits)) for run in runs] == [2, 1]


@pytest.mark.parametrize(
    "limits",
    [
        [Limit(per="key", key="input.", concurrency=1)],
        [Limit(per="key", key="tenant", concurrency=1)],
        [Limit(concurrency=1), Limit(concurrency=2)],
        [Limit(rate="1/s"), Limit(rate="1/s", burst=2)],
    ],
)
def test_limits_that_cannot_be_kept_are_refused(limits: list[Limit]) -> None:
    with pytest.raises(DefinitionError, match="limits/"):

        @agent(limits=limits)
        def work(value: int) -> int:
            return value


def test_one_limit_that_is_no_list_is_refused() -> None:
    with pytest.raises(DefinitionError, match="limits: write a list"):

        @agent(limits=Limit(rate="1/s"))  # type: ignore[arg-type]
        def work(value: int) -> int:
            return value


@pytest.mark.parametrize(
    "fields",
    [{}, {"rate": "0/s"}, {"rate": "5"}, {"burst": 2, "concurrency": 1}, {"per": "key", "rate": "1/s"}],
)
def test_a_limit_that_limits_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"limit|rate|key"):
        Limit(**fields)


def test_pruning_removes_what_nobody_uses(bench: Bench, migrated: str) -> None:
    run = bench.submit(WORK, [1])
    (one,) = claimed(bench, run, items(1), FIVE, Limit(rate="100/s"))
    bench.finish(one)
    bench.drain()

    list(Pruner(migrated, Rule(older_than=0.0)).batches())

    assert bench.query("SELECT count(*) FROM permits") == [(0,)]
    eventually(lambda: list(Pruner(migrated, Rule(older_than=0.0)).batches()))
    assert bench.query("SELECT count(*) FROM limits") == [(0,)]


# --- many processes, some of them killed ----------------------------------------------------------------------------


def attack(url: str, run: UUID, together: Barrier, limits: tuple[Limit, ...], hold: float) -> None:
    """Claim what there is to claim, from a process of its own, until all of it is done."""
    pool = Pool(url, size=2)
    engine = Engine(pool, WorkerId(uuid4(), f"attacker-{os.getpid()}"))
    beat = WorkerBeat(engine.me, ("agent.work",), 4, "threads", lease=2.0)
    together.wait(60)
    while True:
        engine.beat(beat, 0)
        with pool.connection() as conn:
            paths = [
                path
                for (path,) in conn.execute(
                    "SELECT path FROM steps WHERE run_id = %s AND agent = 'work' AND state = 'ready'"
                    " AND (due_at IS NULL OR due_at <= clock_timestamp()) ORDER BY random() LIMIT 4",
                    [run],
                ).fetchall()
            ]
            left = conn.execute(
                "SELECT count(*) FROM steps WHERE run_id = %s AND agent = 'work' AND state IN ('ready', 'running')",
                [run],
            ).fetchone()
        if left == (0,):
            return
        answers = engine.claim_all_within([Wanted(Pointer(run, path), "work", limits) for path in paths])
        mine = [one for one in answers if isinstance(one, Claimed)]
        with pool.connection() as conn:
            conn.execute("SELECT pg_sleep(%s)", [hold if mine else 0.005])
        for recorded in engine.record_all([done(one, 1) for one in mine]) if mine else []:
            assert recorded.accepted
        for one in mine:
            engine.make_room(Pointer(run, one.path))


def most_at_a_time(bench: Bench, run: UUID) -> int:
    """The most attempts that ever ran together, as their rows tell."""
    rows = bench.query("SELECT started_at, finished_at FROM attempts WHERE run_id = %s AND path <> '0'", run)
    turns = sorted([(start, 1) for start, _ in rows] + [(end, -1) for _, end in rows])
    most = present = 0
    for _, change in turns:
        present += change
        most = max(most, present)
    return most


@pytest.mark.parametrize("kill", [0, 2])
def test_processes_that_attack_a_concurrency_never_exceed_it(bench: Bench, migrated: str, kill: int) -> None:
    run = bench.submit(WORK, list(range(60)))

    besiege(bench, attack, migrated, run, (Limit(concurrency=3),), kill=kill)

    assert most_at_a_time(bench, run) == 3
    # on a busy machine the others may have done it all before the last process was there
    assert bench.query("SELECT count(DISTINCT worker_id) > 1 FROM attempts WHERE path <> '0'") == [(True,)]
    assert bench.query("SELECT count(*) FROM steps WHERE agent = 'work' AND state = 'done'") == [(60,)]


@pytest.mark.parametrize("kill", [0, 2])
def test_processes_that_attack_a_rate_never_exceed_it(bench: Bench, migrated: str, kill: int) -> None:
    run = bench.submit(WORK, list(range(60)))

    besiege(bench, attack, migrated, run, (Limit(rate="40/s", burst=3),), kill=kill)

    starts = sorted(at for (at,) in bench.query("SELECT started_at FROM attempts WHERE path <> '0'"))
    assert len(starts) >= 60
    spans = [(starts[n + 3] - starts[n]).total_seconds() for n in range(len(starts) - 3)]
    assert min(spans) >= 1 / 40
    spans = [(starts[n + 13] - starts[n]).total_seconds() for n in range(len(starts) - 13)]
    assert min(spans) >= 11 / 40
