"""Schedules are set, changed, paused, fired by hand and removed; nonsense is refused when it is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.client import Client
from orchestrator.definitions.vocabulary import workflow
from schemas.errors import Conflict, InputError, NotFound
from tests.integration.engine.bench import Bench, named

TAKES = named("a", takes={"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}})
NIGHTLY = workflow("nightly", TAKES)


def test_a_schedule_is_listed_as_it_was_set(client: Client) -> None:
    made = client.schedule("s", NIGHTLY, {"x": 1}, cron="0 9 * * *", timezone="Europe/Berlin", priority=3)
    client.schedule("r", NIGHTLY, {"x": 2}, every=90)

    assert client.schedules.all() == [client.schedules.get("r"), made]
    assert (made.workflow, made.cron, made.timezone, made.every) == (
        "nightly",
        "0 9 * * *",
        "Europe/Berlin",
        None,
    )
    assert (made.input, made.priority, made.tenant, made.missed) == ({"x": 1}, 3, "default", "one")
    assert made.enabled
    assert made.next_at.astimezone(UTC).strftime("%M:%S") == "00:00"
    left = client.schedules.get("r").next_at - datetime.now(UTC)
    assert timedelta(seconds=60) < left <= timedelta(seconds=91)


def test_a_program_may_set_its_schedules_whenever_it_starts(client: Client, bench: Bench) -> None:
    # Given a schedule that was set, moved on a little, and paused by somebody
    client.schedule("s", NIGHTLY, {"x": 1}, every=3600)
    bench.query("UPDATE schedules SET next_at = next_at - interval '30 minutes'")
    client.schedules.pause("s")
    before = client.schedules.get("s")

    # When the program starts again, with another input
    again = client.schedule("s", NIGHTLY, {"x": 2}, every=3600)

    # Then its next time stands, and it is still paused
    assert (again.next_at, again.enabled, again.input) == (before.next_at, False, {"x": 2})
    # But other times begin anew
    assert client.schedule("s", NIGHTLY, {"x": 2}, every=7200).next_at > before.next_at


def test_a_name_that_is_taken_is_refused_to_those_who_do_not_say_replace(client: Client) -> None:
    client.schedule("s", NIGHTLY, {"x": 1}, every=60, replace=False)

    with pytest.raises(Conflict, match="there is a schedule 's' already") as refused:
        client.schedule("s", NIGHTLY, {"x": 2}, every=60, replace=False)

    assert "--replace" in refused.value.next_step
    assert client.schedules.get("s").input == {"x": 1}


def test_a_paused_schedule_fires_nothing_and_makes_up_for_nothing(client: Client, bench: Bench) -> None:
    client.schedule("s", NIGHTLY, {"x": 1}, every=3600, missed="all")
    client.schedules.pause("s")
    client.schedules.pause("s")
    bench.query("UPDATE schedules SET next_at = next_at - interval '5 hours'")
    assert bench.fire() == 0

    client.schedules.resume("s")

    assert bench.fire() == 0
    assert client.schedules.get("s").enabled
    assert client.schedules.get("s").next_at > datetime.now(UTC)


def test_a_schedule_that_is_not_paused_is_not_moved_by_a_resume(client: Client) -> None:
    before = client.schedule("s", NIGHTLY, {"x": 1}, every=3600)

    client.schedules.resume("s")

    assert client.schedules.get("s") == before


def test_a_schedule_is_fired_by_hand_without_moving_it(client: Client, bench: Bench) -> None:
    before = client.schedule("s", NIGHTLY, {"x": 1}, every=3600, labels={"team": "legal"})

    run = client.fire_schedule("s")

    view = client.run(run.id)
    assert view.labels == {"team": "legal", "schedule": "s"}
    assert view.input == {"x": 1}
    after = client.schedules.get("s")
    assert after.next_at == before.next_at
    assert after.last_run_id == run.id


def test_a_removed_schedule_fires_no_more_and_its_runs_stay(client: Client, bench: Bench) -> None:
    client.schedule("s", NIGHTLY, {"x": 1}, every=60)
    run = client.fire_schedule("s")
    bench.query("UPDATE schedules SET next_at = clock_timestamp()")

    client.schedules.remove("s")

    assert bench.fire() == 0
    assert client.schedules.all() == []
    assert isinstance(client.run(run.id).id, UUID)


@pytest.mark.parametrize("verb", ["remove", "get", "pause", "resume", "fire"])
def test_a_schedule_that_is_not_there_is_named(client: Client, verb: str) -> None:
    with pytest.raises(NotFound, match="there is no schedule 's'") as refused:
        getattr(client.schedules, verb)("s")
    assert refused.value.next_step == "baton schedules ls"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"cron": "61 * * * *"}, "cannot be read: bad minute"),
        ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
        ({"every": 5, "cron": "* * * * *"}, "either a cron expression or an interval"),
        ({"every": 5, "timezone": "Berlin"}, "no time zone 'Berlin'"),
        ({"every": 5, "missed": "some"}, "'some' is not one of skip, one, all"),
        ({"every": 5, "overlap": "queue"}, "'queue' is not one of allow, skip"),
        ({"every": 5, "name": "a b"}, "it must be letters"),
        ({"every": 5, "name": ""}, "it must be letters"),
        ({"every": 5, "input": {"x": "no"}}, '"no" is not of type "integer"'),
        ({"every": 5, "priority": 10}, "10 is not between 0 and 9"),
        ({"every": 5, "labels": {"a": "\0"}}, "cannot store"),
    ],
)
def test_nonsense_is_refused_when_it_is_set(client: Client, changed: dict[str, Any], told: str) -> None:
    given: dict[str, Any] = {"name": "s", "workflow": NIGHTLY, "input": {"x": 1}} | changed

    with pytest.raises(InputError, match=told):
        client.schedule(**given)

    assert client.schedules.all() == []


def test_a_workflow_that_is_not_stored_is_named(client: Client) -> None:
    with pytest.raises(NotFound, match="there is no workflow 'nowhere'"):
        client.schedule("s", "nowhere", every=60)


def test_a_definition_that_was_pruned_meanwhile_is_stored_again(client: Client, bench: Bench) -> None:
    client.schedule("s", NIGHTLY, {"x": 1}, every=60)
    client.schedules.remove("s")
    bench.query("DELETE FROM definitions")

    client.schedule("s", NIGHTLY, {"x": 1}, every=60)

    assert bench.query("SELECT count(*) FROM definitions") == [(1,)]
