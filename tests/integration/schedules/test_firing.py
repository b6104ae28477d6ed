"""A schedule that is due creates its run once, however many copies look and wherever one of them dies."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.client import Client
from orchestrator.clock.recurrence import Recurrence
from orchestrator.clock.timers import Timers
from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import workflow
from orchestrator.engine import Ready
from tests.integration.engine.bench import Bench, named
from tests.integration.engine.test_timers import Copy
from tests.support import eventually

NIGHTLY = workflow("nightly", named("a") >> named("b"))


class Died(BaseException):
    """The process ends here."""


def make_due(bench: Bench, ago: float = 0.0) -> None:
    """Every schedule is to be fired next `ago` seconds ago."""
    bench.query("UPDATE schedules SET next_at = clock_timestamp() - make_interval(secs => %s)", ago)


def keys(bench: Bench) -> Counter[str]:
    """The schedules of all runs, by what their idempotency keys say."""
    rows = bench.query("SELECT k.key FROM idempotency_keys k JOIN runs r ON r.id = k.run_id")
    return Counter(key.split()[1] for (key,) in rows)


def test_every_due_time_makes_one_run_however_many_copies_race(client: Client, bench: Bench) -> None:
    # Given schedules that are due over a second and a half, and some that missed three times before
    for number in range(40):
        client.schedule(f"s{number}", NIGHTLY, every=3600)
    for number in range(10):
        client.schedule(f"late{number}", NIGHTLY, every=3600, missed="all")
    bench.query(
        "UPDATE schedules SET next_at = clock_timestamp() + make_interval(secs => 0.2 + 1.3 * random())"
    )
    bench.query("UPDATE schedules SET next_at = next_at - interval '3 hours' WHERE name LIKE 'late%%'")

    # When four copies look
    sent: list[tuple[float, Ready]] = []
    with Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent):
        eventually(lambda: sum(keys(bench).values()) >= 40 + 10 * 4, timeout=20)
        eventually(lambda: len(sent) >= 80, timeout=20)

    # Then each has made its runs once, and their first steps were sent once
    assert keys(bench) == Counter({f"s{n}": 1 for n in range(40)} | {f"late{n}": 4 for n in range(10)})
    assert set(Counter((one.run.id, one.path) for _, one in sent).values()) == {1}
    late = bench.query(
        "SELECT max(extract(epoch FROM last_fired_at - (next_at - interval '1 hour'))) FROM schedules"
    )
    assert late[0][0] < 5.0
    assert bench.query("SELECT count(*) FROM schedules WHERE next_at < clock_timestamp()") == [(0,)]


def test_many_schedules_of_one_moment_share_a_transaction(client: Client, bench: Bench) -> None:
    for number in range(150):
        client.schedule(f"s{number}", NIGHTLY, cron="0 9 * * *")
    make_due(bench)

    assert bench.fire() == 150

    assert keys(bench) == Counter({f"s{n}": 1 for n in range(150)})
    assert bench.query("SELECT count(DISTINCT xmin::text) FROM schedules") == [(1,)]


def test_a_run_has_all_that_its_schedule_says(client: Client, bench: Bench) -> None:
    client.schedule("s", NIGHTLY, {"x": 1}, every=60, tenant="acme", priority=7, labels={"team": "legal"})
    make_due(bench)
    bench.fire()

    (run,) = client.runs(label="schedule=s")
    view = client.run(run.id)
    assert (view.tenant, view.priority, view.workflow) == ("acme", 7, "nightly")
    assert view.labels == {"team": "legal", "schedule": "s"}
    assert view.input == {"x": 1}
    shown = client.schedules.get("s")
    assert shown.last_run_id == run.id
    assert shown.last_fired_at is not None
    assert shown.next_at > shown.last_fired_at


def test_a_copy_that_dies_before_its_commit_has_done_nothing(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.schedule("s", NIGHTLY, every=60)
    make_due(bench)
    submit_on = bench.engine.submit_on

    def dying(*arguments: Any) -> Any:
        submit_on(*arguments)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(bench.engine, "submit_on", dying)
        with pytest.raises(Died):
            bench.fire()

    assert client.runs() == []
    assert bench.fire() == 1
    assert keys(bench) == Counter({"s": 1})


def test_a_copy_that_dies_after_its_commit_leaves_a_run_that_the_next_look_sends(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.schedule("s", NIGHTLY, every=60)
    make_due(bench)

    def dying(*_: Any) -> Any:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(bench.engine, "unsent", dying)
        with pytest.raises(Died):
            bench.fire()

    assert len(client.runs()) == 1
    assert bench.messages == []
    assert bench.fire() == 1
    bench.drain()
    assert client.runs()[0].state == "completed"
    assert keys(bench) == Counter({"s": 1})


def test_what_could_not_be_sent_is_found_by_recovery(client: Client, bench: Bench) -> None:
    class Unreachable:
        def send(self, ready: Sequence[Ready]) -> bool:
            return False

    client.schedule("s", NIGHTLY, every=60)
    make_due(bench)
    Timers(bench.engine, Unreachable()).look()  # type: ignore[arg-type]
    bench.query("UPDATE steps SET ready_at = ready_at - interval '6 seconds'")
    bench.query(
        "INSERT INTO workers (id, name, queues, concurrency, pool, lease_until)"
        " VALUES (gen_random_uuid(), 'w', '{agent.a}', 4, 'threads', clock_timestamp() + interval '1 hour')"
    )

    assert bench.sweep() == 1


@pytest.mark.parametrize(("missed", "runs"), [("skip", 0), ("one", 1), ("all", 4)])
def test_what_nobody_was_there_to_fire_is_made_up_for_as_told(
    client: Client, bench: Bench, missed: str, runs: int
) -> None:
    client.schedule("s", NIGHTLY, every=3600, missed=missed)
    make_due(bench, ago=3.5 * 3600)

    bench.fire()
    bench.fire()

    assert len(client.runs()) == runs
    ((ahead,),) = bench.query("SELECT extract(epoch FROM next_at - clock_timestamp())::float8 FROM schedules")
    assert ahead == pytest.approx(1800, abs=60)


@pytest.mark.parametrize(("overlap", "runs"), [("allow", 2), ("skip", 1)])
def test_a_time_that_comes_while_the_last_run_goes_on(
    client: Client, bench: Bench, overlap: str, runs: int
) -> None:
    client.schedule("s", NIGHTLY, every=60, overlap=overlap)
    for _ in range(2):
        make_due(bench)
        bench.fire()

    assert len(client.runs()) == runs
    one = client.schedules.get("s")
    assert (one.left_out_at is not None) == (overlap == "skip")
    assert one.next_at > one.created_at


@pytest.mark.parametrize("ends", [True, False])
def test_one_run_at_a_time_goes_on_when_it_has_ended_and_not_when_it_is_paused(
    client: Client, bench: Bench, ends: bool
) -> None:
    client.schedule("s", NIGHTLY, every=60, overlap="skip")
    make_due(bench)
    bench.fire()
    (first,) = client.runs()
    if ends:
        client.cancel(first.id)
    else:
        client.pause(first.id)

    make_due(bench)
    bench.fire()

    assert len(client.runs()) == 1 + ends


def test_one_run_at_a_time_is_one_for_all_that_was_missed_and_one_with_copies_that_race(
    client: Client, bench: Bench
) -> None:
    for number in range(20):
        client.schedule(f"s{number}", NIGHTLY, every=60, missed="all", overlap="skip")
    make_due(bench, ago=600)

    sent: list[tuple[float, Ready]] = []
    with Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent):
        eventually(lambda: len(sent) >= 20, timeout=20)

    assert keys(bench) == Counter({f"s{n}": 1 for n in range(20)})


def test_a_key_that_somebody_else_uses_costs_one_time_and_no_more(
    client: Client, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    client.schedule("s", NIGHTLY, every=60)
    client.schedule("t", NIGHTLY, every=60)
    make_due(bench)
    ((at,),) = bench.query("SELECT next_at AT TIME ZONE 'UTC' FROM schedules WHERE name = 's'")
    client.submit(NIGHTLY, "something else", idempotency_key=f"schedule s {at.isoformat()}+00:00")

    with caplog.at_level(logging.WARNING):
        bench.fire()

    assert "schedule s leaves out a run" in caplog.text
    assert keys(bench) == Counter({"s": 1, "t": 1})
    assert bench.query("SELECT count(*) FROM schedules WHERE next_at < clock_timestamp()") == [(0,)]


def test_a_definition_that_cannot_be_read_here_stops_nobody_else(
    client: Client, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a schedule whose workflow was stored by a version of Baton that knows more patterns
    client.schedule("newer", workflow("newer", named("x")), every=60)
    client.schedule("s", NIGHTLY, every=60)
    bench.query("UPDATE definitions SET body = '{\"name\": \"newer\"}' WHERE name = 'newer'")
    make_due(bench)

    # When an older worker looks, twice
    recurrence = Recurrence(bench.engine)
    assert len(recurrence.fire()) == 1
    assert recurrence.fire() == []

    # Then it has fired the other one, said so once, and left the first to those who can read it
    assert caplog.text.count("cannot be read here, so others") == 1
    assert keys(bench) == Counter({"s": 1})
    assert bench.query("SELECT name FROM schedules WHERE next_at < clock_timestamp()") == [("newer",)]


def test_a_time_zone_that_is_not_known_here_stops_nobody_else(
    client: Client, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "stu":
        client.schedule(name, NIGHTLY, cron="0 9 * * *", timezone="Europe/Berlin")
    bench.query("UPDATE schedules SET timezone = 'Mars/Olympus' WHERE name = 't'")
    make_due(bench)

    recurrence = Recurrence(bench.engine)
    assert len(recurrence.fire()) == 2
    assert recurrence.fire() == []

    assert caplog.text.count("the times of schedule t cannot be told here") == 1
    assert keys(bench) == Counter({"s": 1, "u": 1})


def test_its_runs_keep_the_definition_until_the_schedule_is_set_again(client: Client, bench: Bench) -> None:
    def fired_with() -> str:
        make_due(bench)
        bench.fire()
        return str(bench.query("SELECT definition_id FROM runs ORDER BY created_at DESC LIMIT 1")[0][0])

    newer = workflow("nightly", named("a"), version=2)
    client.schedule("s", NIGHTLY, every=60)
    client.register(newer)
    assert fired_with() == compile_workflow(NIGHTLY).id

    client.schedule("s", newer, every=60)
    assert fired_with() == compile_workflow(newer).id
