"""Old runs go with all that is theirs; nothing else does, whatever goes on meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from typer.testing import CliRunner, Result

from orchestrator import prune
from orchestrator.cli.app import app
from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import approve, each, workflow
from orchestrator.engine import Submission
from orchestrator.engine.run_locks import run_key
from orchestrator.identify import new_id
from orchestrator.prune import Pruner, Removed, Rule
from orchestrator.store import lock_queries
from schemas.errors import Conflict, IdempotencyConflict
from schemas.runs import RunState
from schemas.settings import settings
from tests.integration.engine.bench import Bench, Boom, echo, named
from tests.support import eventually

LINE = workflow("line", named("a") >> named("b"))
WIDE = workflow("wide", each(named("a")))
DAY = 86_400.0
OF_RUNS = ("steps", "attempts", "events", "idempotency_keys")


def age(bench: Bench, run: UUID, days: float) -> None:
    """Let a run have lived so many days ago."""
    for table, key, columns in (
        ("runs", "id", ("created_at", "started_at", "finished_at")),
        ("steps", "run_id", ("ready_at", "started_at", "finished_at")),
    ):
        shifted = ", ".join(f"{name} = {name} - make_interval(days => {days})" for name in columns)
        bench.query(f"UPDATE {table} SET {shifted} WHERE {key} = %s", run)  # noqa: S608  names of this test


def ended(bench: Bench, days: float = 40, state: str = "completed", **fields: Any) -> UUID:
    """A run that ended so, so many days ago."""
    run = bench.submit(fields.pop("definition", LINE), fields.pop("value", 1), **fields)
    if state == "cancelled":
        bench.engine.cancel(run)
        bench.messages.clear()
    else:
        bench.drain(echo if state == "completed" else fail)
    assert bench.query("SELECT state FROM runs WHERE id = %s", run) == [(state,)]
    age(bench, run, days)
    return run


def fail(agent: str, value: Any, claimed: Any) -> Any:
    raise Boom("no")


def pruned(bench: Bench, days: float = 30, **rule: Any) -> Removed:
    """Prune, and look that nothing is left in part."""
    removed = Removed()
    for batch in Pruner(bench.url, Rule(days * DAY, **rule)).batches():
        removed += batch
    for table in OF_RUNS:
        assert bench.query(f"SELECT run_id FROM {table} WHERE run_id NOT IN (SELECT id FROM runs)") == []  # noqa: S608
    assert bench.query("SELECT id FROM runs WHERE id NOT IN (SELECT run_id FROM events)") == []
    return removed


def runs(bench: Bench) -> set[UUID]:
    return {run for (run,) in bench.query("SELECT id FROM runs")}


# --- what goes, and what stays ----------------------------------------------------------------------------


def test_a_run_goes_with_everything_that_is_its_own(bench: Bench) -> None:
    old = ended(bench, idempotency_key="k", definition=WIDE, value=[1, 2, 3])
    young = ended(bench, days=20, idempotency_key="l")
    ((events,),) = bench.query("SELECT count(*) FROM events WHERE run_id = %s", old)

    removed = pruned(bench)

    assert runs(bench) == {young}
    assert removed == Removed(runs=1, steps=4, attempts=3, events=events, keys=1)
    for table in OF_RUNS:
        assert bench.query(f"SELECT 1 FROM {table} WHERE run_id = %s", old) == []  # noqa: S608
        assert bench.query(f"SELECT 1 FROM {table} WHERE run_id = %s", young) != []  # noqa: S608


def test_a_run_that_has_not_ended_stays_however_old_it_is(bench: Bench) -> None:
    queued, running, delayed, paused, resumed = (bench.submit(LINE, n) for n in range(5))
    bench.claim(running, "0")
    bench.engine.pause(paused)
    bench.messages = [one for one in bench.messages if one.run.id == resumed]
    bench.drain(fail)
    kept = {queued, running, delayed, paused, resumed}
    for run in kept:
        age(bench, run, 400)
    bench.engine.resume(resumed)

    assert pruned(bench) == Removed()
    assert runs(bench) == kept


def test_age_counts_from_the_end_of_a_run_not_from_its_beginning(bench: Bench) -> None:
    run = ended(bench, days=0)
    bench.query("UPDATE runs SET created_at = created_at - interval '90 days'")

    assert pruned(bench) == Removed()
    assert runs(bench) == {run}


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        ({}, {"completed", "failed", "cancelled"}),
        ({"states": {RunState.CANCELLED}}, {"cancelled"}),
        ({"states": {RunState.COMPLETED, RunState.CANCELLED}}, {"completed", "cancelled"}),
        ({"workflow": "line"}, {"completed", "failed", "cancelled"}),
        ({"workflow": "wide"}, set()),
        ({"tenant": "acme"}, {"failed"}),
    ],
)
def test_a_rule_says_which_runs(bench: Bench, rule: dict[str, Any], gone: set[str]) -> None:
    for state in ("completed", "failed", "cancelled"):
        ended(bench, state=state, tenant="acme" if state == "failed" else "default")
    rule = {**rule, **({"states": frozenset(rule["states"])} if "states" in rule else {})}

    pruned(bench, **rule)

    left = {state for (state,) in bench.query("SELECT state FROM runs")}
    assert left == {"completed", "failed", "cancelled"} - gone


def test_what_is_kept_does_not_keep_what_is_behind_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "MOST", 2)
    kept = {ended(bench, days=90 - n, state="failed") for n in range(7)}
    for n in range(7):
        ended(bench, days=60 - n)

    removed = pruned(bench, states=frozenset({RunState.COMPLETED, RunState.CANCELLED}))

    assert removed.runs == 7
    assert runs(bench) == kept


def test_a_key_protects_as_long_as_its_run_is_there(bench: Bench) -> None:
    run = ended(bench, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        bench.submit(LINE, 2, idempotency_key="k")

    pruned(bench)

    assert bench.submit(LINE, 2, idempotency_key="k") != run


def test_a_fork_outlives_the_run_that_it_came_from(bench: Bench) -> None:
    origin = ended(bench)
    fork = ended(bench, days=10)
    bench.query("UPDATE runs SET forked_from = %s, forked_at = '1' WHERE id = %s", origin, fork)

    pruned(bench)

    assert runs(bench) == {fork}
    assert bench.view(fork).output == 1


def test_the_rest_goes_when_nothing_refers_to_it(bench: Bench) -> None:
    # Given three versions of a workflow, workers and dead letters
    first, second, third = (LINE.model_copy(update={"description": text}) for text in "123")
    ended(bench, definition=first)
    young = ended(bench, days=1, definition=second)
    bench.submit(third)
    bench.query("UPDATE definitions SET created_at = created_at - interval '50 days'")
    bench.query("UPDATE definitions SET created_at = created_at + interval '1 day' WHERE id = %s", third.id)
    for days in (50, 5, None):
        stopped = "NULL" if days is None else f"now() - interval '{days} days'"
        bench.query(
            f"""INSERT INTO workers (id, name, queues, concurrency, pool, lease_until, stopped_at)
                VALUES (%s, 'w', '{{}}', 1, 'threads', now() - interval '60 days', {stopped})""",  # noqa: S608
            uuid4(),
        )
        bench.query(
            f"""INSERT INTO dead_letters (queue, reason, message, at, settled, settled_at)
                VALUES ('q', 'r', '{{}}', now() - interval '60 days',
                        CASE WHEN {stopped} IS NOT NULL THEN 'dropped' END, {stopped})"""  # noqa: S608
        )

    # When only some runs are meant, nothing else goes
    assert pruned(bench, tenant="nobody") == Removed()
    # And otherwise what is old and of no use, but not the latest version of a name
    bench.query(
        "INSERT INTO schedules (name, definition_id, workflow, input, every, next_at)"
        " VALUES ('s', %s, 'line', '1', 60, now())",
        first.id,
    )
    removed = pruned(bench)
    assert (removed.definitions, removed.workers, removed.dead_letters) == (0, 1, 1)
    bench.query("DELETE FROM schedules")
    assert pruned(bench) == Removed(definitions=1)
    assert {row for (row,) in bench.query("SELECT id FROM definitions")} == {second.id, third.id}
    assert young in runs(bench)


def test_dead_letters_of_a_run_go_with_it(bench: Bench) -> None:
    run = ended(bench)
    bench.query(
        "INSERT INTO dead_letters (queue, reason, message, run_id, path) VALUES ('q', 'r', '{}', %s, '0')",
        run,
    )

    assert pruned(bench).dead_letters == 1


def test_what_a_run_waited_for_and_did_inside_goes_with_it(bench: Bench) -> None:
    run = ended(bench)
    young = bench.submit(workflow("young", approve("ask")))
    bench.query(
        "INSERT INTO waits (run_id, path, kind, key, audience, escalate_to) VALUES (%s, '0', 'a', 'k', '{}', '{}')",
        run,
    )
    bench.query("INSERT INTO journal VALUES (%s, '0', 0, 'name', '1', 1)", run)
    bench.query("INSERT INTO notices (kind, run_id, path, body) VALUES ('k', %s, '0', '{}')", run)

    pruned(bench)

    assert bench.query("SELECT run_id FROM waits") == [(young,)]
    assert bench.query("SELECT count(*) FROM journal") == [(0,)]
    assert bench.query("SELECT count(*) FROM notices WHERE run_id = %s", run) == [(0,)]


def test_results_of_celery_go_with_their_run_and_those_of_others_on_request(bench: Bench) -> None:
    ended(bench, idempotency_key="task:mine")
    for name in ("mine", "other", "header", "young"):
        days = 0 if name == "young" else 40
        bench.query(
            "INSERT INTO results VALUES (%s, 'SUCCESS', '', now() - make_interval(days => %s))", name, days
        )
    bench.query("INSERT INTO chords (id, opened_at) VALUES ('open', now() - interval '40 days')")
    bench.query("INSERT INTO chord_parts VALUES ('open', 'header', 0, true, '')")
    bench.query("INSERT INTO result_groups VALUES ('open', '', now() - interval '40 days')")
    bench.query("INSERT INTO result_groups VALUES ('old', '', now() - interval '40 days')")
    bench.query(
        """INSERT INTO chords (id, size, opened_at, fired_at, done_at)
           SELECT 'old', 1, at, at, at FROM (SELECT now() - interval '40 days' AS at) AS past"""
    )

    def left(table: str) -> set[str]:
        return {name for (name,) in bench.query(f"SELECT id FROM {table}")}  # noqa: S608

    assert pruned(bench).results == 1
    assert left("results") == {"other", "header", "young"}

    counted = Pruner(bench.url, Rule(30 * DAY, results=True)).count()
    assert pruned(bench, results=True).results == counted.results == 3
    assert left("results") == {"header", "young"}
    assert left("result_groups") == left("chords") == {"open"}


def test_a_dry_run_counts_what_would_go_and_removes_nothing(bench: Bench) -> None:
    for number in range(3):
        ended(bench, idempotency_key=f"k{number}")
    ((events,),) = bench.query("SELECT count(*) FROM events")

    counted = Pruner(bench.url, Rule(30 * DAY)).count()

    assert bench.query("SELECT count(*) FROM events") == [(events,)]
    assert counted == Removed(runs=3, steps=6, attempts=6, events=events, keys=3)
    assert pruned(bench) == counted


# --- beside others ----------------------------------------------------------------------------------------


@contextmanager
def holding(bench: Bench, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of somebody else that holds something until the end of the block."""
    with psycopg.connect(bench.url) as conn:
        for statement in statements:
            conn.execute(statement.encode())
        yield conn


def test_a_run_that_somebody_holds_is_left_for_the_next_time(bench: Bench) -> None:
    held = [ended(bench, state="failed") for _ in range(3)]
    ended(bench)
    numbering = f"SELECT pg_advisory_xact_lock(7003, hashtext('{held[1]}'))"
    row = f"SELECT FROM runs WHERE id = '{held[2]}' FOR UPDATE"
    with holding(bench, lock_queries.OWN_RUN.format(key=run_key(held[0])), numbering, row):
        assert pruned(bench).runs == 1
        assert runs(bench) == set(held)

    assert pruned(bench).runs == 3


def test_a_definition_that_a_submission_holds_stays(bench: Bench) -> None:
    # Given an old version that no run refers to any more, and a submission that has it, not committed yet
    ended(bench)
    bench.submit(LINE.model_copy(update={"description": "newer"}))
    bench.query("UPDATE definitions SET created_at = created_at - interval '50 days' WHERE id = %s", LINE.id)
    plan = compile_workflow(LINE)
    with psycopg.connect(bench.url) as conn:
        bench.engine.submit_on(conn, plan, [Submission(new_id(), "1")])
        assert pruned(bench).definitions == 0

    assert bench.query("SELECT count(*) FROM definitions WHERE id = %s", LINE.id) == [(1,)]
    bench.fire()
    bench.drain()
    assert bench.query("SELECT count(*) FROM runs WHERE state = 'completed'") == [(2,)]


def test_a_batch_that_meets_a_lock_gives_up_soon_and_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(bench)
    monkeypatch.setattr(prune, "LOCK_TIMEOUT", 0.1)
    monkeypatch.setattr(prune, "PATIENCE", 3)
    # Given somebody who alters a table for long, prune says so, and nothing is gone in part
    with holding(bench, "LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE") as conn:
        with pytest.raises(
            Conflict, match="Somebody holds locks on the tables for long: canceling statement"
        ):
            pruned(bench)
        conn.rollback()
        assert len(runs(bench)) == 1
    # And one who does so for a moment, it waits
    monkeypatch.setattr(prune, "PATIENCE", 100)
    with holding(bench, "LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE") as conn:
        pruning = threading.Thread(target=lambda: pruned(bench))
        pruning.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'baton prune'"
        with psycopg.connect(bench.url, autocommit=True) as other:
            eventually(lambda: other.execute(waits).fetchone() is not None)
        conn.rollback()
        pruning.join(20)
    assert runs(bench) == set()


def test_pruning_may_stop_anywhere_and_go_on_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "MOST", 1)
    for _ in range(15):
        ended(bench)
    batches = Pruner(bench.url, Rule(30 * DAY)).batches()
    next(batches)
    batches.close()  # type: ignore[attr-defined]

    assert len(runs(bench)) == 5  # the first batch is of ten
    assert pruned(bench).runs == 5


def test_batches_are_short_whatever_the_size_of_the_runs(bench: Bench) -> None:
    for number in range(40):
        ended(bench, definition=WIDE, value=list(range(20 if number < 20 else 0)))

    sizes = [batch.runs for batch in Pruner(bench.url, Rule(30 * DAY)).batches() if batch.runs]

    assert sizes[0] == 10
    assert sum(sizes) == 40
    assert max(sizes) <= prune.MOST


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def command(migrated: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("BATON_DATABASE_URL", migrated)
    monkeypatch.setenv("BATON_BROKER_URL", redis_url)
    settings.cache_clear()
    yield lambda *words: CliRunner().invoke(app, ["db", "prune", *words])
    settings.cache_clear()


def test_the_command_says_what_it_removed(bench: Bench, command: Any) -> None:
    for state in ("completed", "failed"):
        ended(bench, state=state)

    def told(*words: str) -> Result:
        result: Result = command("--older-than", *words)
        assert result.exit_code == 0, result.output
        return result

    assert told("30d", "--dry-run").stdout.startswith("Would remove 2 runs, 3 steps, ")
    assert told("60d").stdout == "Removed 0 runs.\n"
    kept = json.loads(told("30d", "--keep-failed", "--json").stdout)
    assert (kept["dry_run"], kept["removed"]["runs"], kept["removed"]["steps"]) == (False, 1, 2)
    assert told("4d", "--state", "failed").stdout.startswith("Removed 1 runs, 1 steps, ")
    assert runs(bench) == set()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--older-than", "30"], 2, "--older-than needs a unit, such as 30d"),
        (["--older-than", "soon"], 1, "'soon' is not like 30s, 5m, 1h30m or 2d"),
        ([], 2, "Missing option"),
        (["--older-than", "1d", "--state", "running"], 2, "Invalid value for '--state'"),
        (["--older-than", "1d", "--state", "failed", "--keep-failed"], 2, "exclude each other"),
    ],
)
def test_wrong_use_is_explained(command: Any, words: list[str], code: int, sentence: str) -> None:
    result = command(*words)

    assert result.exit_code == code
    assert sentence in result.output


# --- events from outside ----------------------------------------------------------------------------------


def came(bench: Bench, id: str, days: float, state: str | None = None) -> None:
    """An event that came so many days ago, and what became of it."""
    (number,) = bench.query(
        "INSERT INTO incoming_events (id, type, payload, at, spread_at) SELECT %s, 'a', '1', t, t"
        " FROM (SELECT clock_timestamp() - make_interval(days => %s) AS t) AS x RETURNING number",
        id,
        days,
    )[0]
    if state is not None:
        bench.query(
            "INSERT INTO deliveries (event, subscription, version, tenant, state, run_id, reason)"
            " VALUES (%s, 's', 1, 'default', %s, %s, 'why')",
            number,
            state,
            uuid4(),
        )


def test_events_go_when_they_are_old_and_dealt_with(bench: Bench) -> None:
    for state in ("started", "dropped", "failed", "held", "new"):
        came(bench, state, 40, state)
    came(bench, "unconcerned", 40)
    came(bench, "recent", 20, "started")

    assert Pruner(bench.url, Rule(30 * DAY)).count() == Removed(incoming_events=3)
    assert pruned(bench) == Removed(incoming_events=3)

    left = {id for (id,) in bench.query("SELECT id FROM incoming_events")}
    assert left == {"failed", "held", "new", "recent"}
    assert bench.query("SELECT count(*) FROM deliveries") == [(4,)]


def test_events_stay_that_a_run_may_still_look_for(bench: Bench) -> None:
    came(bench, "before", 50)
    came(bench, "while", 40)
    run = bench.submit(LINE, 1)
    bench.query("UPDATE runs SET created_at = created_at - interval '45 days' WHERE id = %s", run)

    assert pruned(bench) == Removed(incoming_events=1)

    assert bench.query("SELECT id FROM incoming_events") == [("while",)]


def test_a_gate_that_is_open_again_goes(bench: Bench) -> None:
    bench.query(
        "INSERT INTO event_gates (subscription, tenant, key, shut_until)"
        " SELECT 's', 't', d::text, clock_timestamp() - make_interval(days => d) FROM unnest(ARRAY[20, 40]) AS d"
    )

    pruned(bench)

    assert bench.query("SELECT key FROM event_gates") == [("20",)]


def test_a_definition_that_a_subscription_starts_stays(bench: Bench) -> None:
    ended(bench)
    bench.query(
        "INSERT INTO subscriptions (name, version, digest, type, definition_id, body)"
        " SELECT 's', 1, 'x', 'a', id, '{}' FROM definitions"
    )
    bench.submit(workflow("line", named("z") >> named("y")), 1)
    bench.query("UPDATE definitions SET created_at = created_at - interval '40 days' WHERE id = %s", LINE.id)

    assert pruned(bench).definitions == 0
    assert bench.query("SELECT count(*) FROM definitions WHERE id = %s", LINE.id) == [(1,)]
