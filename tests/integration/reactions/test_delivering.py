"""Every event starts what is subscribed to it once, however many copies look; what is wrong concerns nobody else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from orchestrator.client import Client
from orchestrator.definitions.reactions import Reaction, on
from orchestrator.definitions.vocabulary import workflow
from orchestrator.engine import Ready
from orchestrator.incoming.deliverer import Deliverer
from schemas.incoming import Delivery
from schemas.subscriptions import Debounce
from tests.integration.engine.bench import Bench, named
from tests.integration.engine.test_timers import Copy
from tests.support import eventually

TRIAGE = workflow("triage", named("a") >> named("b"))
AUDIT = workflow("audit", named("c"))
STRICT = workflow("strict", named("d", takes={"type": "object", "required": ["id"]}))


class Died(BaseException):
    """The process ends here."""


def inputs(bench: Bench, name: str = "triage") -> list[Any]:
    """What the runs of a workflow were started with, the oldest first."""
    rows = bench.query("SELECT input FROM runs WHERE workflow = %s ORDER BY created_at, id", name)
    return [value for (value,) in rows]


def deliveries(client: Client, event: str) -> dict[str, Delivery]:
    return {one.subscription: one for one in client.inbox.find(event).deliveries}


def states(client: Client, event: str) -> dict[str, str]:
    return {name: one.state.value for name, one in deliveries(client, event).items()}


def test_an_event_starts_a_run_of_each_subscription_that_it_concerns(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy(
        [
            on("ticket.created", start=TRIAGE, when="event.priority == 'high'", key="event.customer"),
            on("ticket.*", start=AUDIT, input="{'what': type, 'who': event.customer}", priority=3),
            on("ticket.closed", start=TRIAGE, name="never"),
        ]
    )

    client.emit("ticket.created", {"priority": "high", "customer": "acme"}, id="1", tenant="east")
    client.emit("ticket.created", {"priority": "low", "customer": "acme"}, id="2")
    client.emit("ticketing", {"customer": "x"}, id="3")
    assert bench.fire() == 3
    bench.drain()

    assert inputs(bench) == [{"priority": "high", "customer": "acme"}]
    assert inputs(bench, "audit") == [{"what": "ticket.created", "who": "acme"}] * 2
    assert states(client, "1") == {"triage.ticket.created": "started", "audit.ticket": "started"}
    assert states(client, "2") == {"audit.ticket": "started"}
    assert states(client, "3") == {}
    run = bench.view(deliveries(client, "1")["triage.ticket.created"].run_id or UUID(int=0))
    assert run.labels == {"subscription": "triage.ticket.created", "event": "1", "key": "acme"}
    assert (run.tenant, run.priority, run.state) == ("east", 0, "completed")


def test_many_copies_start_every_run_once(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy(
        [on("a", start=TRIAGE), on("a", start=AUDIT), on("a", start=AUDIT, name="too")]
    )
    sent: list[tuple[float, Ready]] = []

    with Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent):
        for number in range(300):
            client.emit("a", number)
        eventually(lambda: len(sent) >= 900, timeout=30)

    assert Counter(inputs(bench)) == Counter(range(300))
    assert Counter(inputs(bench, "audit")) == Counter(dict.fromkeys(range(300), 2))
    assert len(sent) == 900
    assert set(Counter((one.run.id, one.path) for _, one in sent).values()) == {1}


@pytest.mark.parametrize("where", ["_judge", "_gated", "_started"])
def test_a_copy_that_dies_leaves_all_of_it_to_the_next(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    client.subscriptions.deploy([on("a", start=TRIAGE), on("a", start=AUDIT)])
    client.emit("a", 1, id="1")
    whole = getattr(Deliverer, where)

    def dies_after(*arguments: Any) -> Any:
        whole(*arguments)
        raise Died

    monkeypatch.setattr(Deliverer, where, dies_after)
    with pytest.raises(Died):
        Deliverer(bench.engine).deliver()
    assert states(client, "1") == {"triage.a": "new", "audit.a": "new"}
    assert bench.query("SELECT id FROM runs") == []
    monkeypatch.undo()

    bench.fire()

    assert (inputs(bench), inputs(bench, "audit")) == ([1], [1])


def test_first_steps_of_a_copy_that_died_before_it_sent_them_are_sent(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy([on("a", start=TRIAGE)])
    client.emit("a", 1)
    bench.engine.unsent = _dies  # type: ignore[method-assign,assignment]
    with pytest.raises(Died):
        Deliverer(bench.engine).deliver()
    del bench.engine.unsent

    bench.drain()

    (run,) = bench.query("SELECT id FROM runs")
    assert bench.end(run[0]).state == "completed"


def _dies(*_: object) -> Iterator[Ready]:
    raise Died


def test_a_faulty_condition_sets_events_aside_and_is_no_concern_of_others(
    client: Client, bench: Bench
) -> None:
    client.subscriptions.deploy(
        [
            on("a", start=AUDIT, name="faulty", when="event.missing == 1"),
            on("a", start=AUDIT, name="no-bool", when="event.x"),
            on("a", start=AUDIT, name="no-key", key="event.x == 1"),
            on("a", start=STRICT, name="misfit"),
            on("a", start=AUDIT, name="elsewhere", when="event.x == 2", key="event.missing"),
            on("a", start=AUDIT, name="zero", input="1 / (event.x - 1)"),
            on("a", start=TRIAGE),
        ]
    )
    client.emit("a", {"x": 1}, id="1")

    bench.fire()

    found = deliveries(client, "1")
    assert found.pop("triage.a").state == "started"
    assert "elsewhere" not in found
    assert {one.state.value for one in found.values()} == {"failed"}
    assert "missing" in (found["faulty"].reason or "")
    assert "instead of true or false" in (found["no-bool"].reason or "")
    assert "instead of a text" in (found["no-key"].reason or "")
    assert '"id" is a required property' in (found["misfit"].reason or "")
    assert inputs(bench) == [{"x": 1}]
    assert [one.id for one in client.inbox.recent(failed=True)] == ["1"]
    bench.fire()
    assert len(inputs(bench)) == 1


def test_what_was_set_aside_can_be_tried_again_once_it_is_mended(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy([on("a", start=AUDIT, name="s", when="event.missing == 1")])
    client.emit("a", {"x": 1}, id="1")
    client.emit("a", {"x": 2}, id="2")
    bench.fire()
    client.subscriptions.deploy([on("a", start=AUDIT, name="s", when="event.x == 1")])

    assert client.inbox.retry(event=client.inbox.find("1").number) == 1
    bench.fire()

    assert (deliveries(client, "1")["s"].state, deliveries(client, "1")["s"].version) == ("started", 2)
    assert client.inbox.drop(subscription="s") == 1
    assert states(client, "2") == {"s": "dropped"}
    assert client.inbox.retry() == 0


def test_what_this_process_cannot_read_waits_for_one_that_can(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy([on("a", start=AUDIT), on("a", start=TRIAGE)])
    bench.query(
        "UPDATE subscriptions SET body = (body::jsonb || '{\"later\": 1}')::json WHERE name = 'audit.a'"
    )
    client.emit("a", 1, id="1")

    bench.fire()

    assert states(client, "1") == {"audit.a": "new", "triage.a": "started"}
    bench.query("UPDATE subscriptions SET body = (body::jsonb - 'later')::json")
    bench.fire()
    assert states(client, "1") == {"audit.a": "started", "triage.a": "started"}


def test_a_condition_and_an_input_see_the_state_of_the_events_key(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy(
        [
            on("a", start=AUDIT, key="event.k", when="!has(state.muted)", input="[event.k, state.open]"),
            on("a", start=TRIAGE, key="event.k", debounce=60, input="{'held': has(state.open)}"),
        ]
    )
    bench.query(
        "INSERT INTO states (tenant, scope, owner, name, value, version) VALUES"
        " ('default', 'key', 'x', 'open', '3', 1), ('default', 'key', 'y', 'open', '1', 1),"
        " ('default', 'key', 'y', 'muted', 'true', 1), ('other', 'key', 'z', 'open', '9', 1)"
    )
    for key in ("x", "y", "z"):
        client.emit("a", {"k": key}, id=key)
    bench.fire()
    later(bench, 61)
    bench.fire()

    assert inputs(bench, "audit") == [["x", 3]]
    assert states(client, "y") == {"triage.a": "started"}
    assert "open" in (deliveries(client, "z")["audit.a"].reason or "")
    assert sorted(one["held"] for one in inputs(bench)) == [False, True, True]


# --- debounce and throttle --------------------------------------------------------------------------------


def later(bench: Bench, seconds: float) -> None:
    """Let so much time pass for all gates."""
    columns = ("due_at", "opened_at", "shut_until")
    moved = ", ".join(f"{name} = {name} - make_interval(secs => {seconds})" for name in columns)
    bench.query(f"UPDATE event_gates SET {moved}")  # noqa: S608  names of this test


def come(client: Client, bench: Bench, *values: Any, key: str = "k") -> None:
    """Events that come one after the other, each looked at before the next."""
    for value in values:
        client.emit("a", value, key=key)
        bench.fire()


@pytest.mark.parametrize(
    ("take", "started"), [("latest", [3, 9]), ("first", [1, 9]), ("all", [[1, 2, 3], [9]])]
)
def test_debounce_starts_one_run_when_it_has_been_quiet(
    client: Client, bench: Bench, take: str, started: list[Any]
) -> None:
    client.subscriptions.deploy([on("a", start=AUDIT, debounce=60, take=take)])
    come(client, bench, 1)
    later(bench, 59)
    come(client, bench, 2)
    later(bench, 59)
    come(client, bench, 3)
    come(client, bench, 9, key="other")
    assert inputs(bench, "audit") == []

    later(bench, 61)
    bench.fire()

    assert sorted(inputs(bench, "audit"), key=str) == sorted(started, key=str)
    states = Counter(one.state.value for e in client.inbox.recent() for one in e.deliveries)
    assert states == Counter({"started": 4} if take == "all" else {"started": 2, "dropped": 2})
    bench.fire()
    assert len(inputs(bench, "audit")) == 2


def test_debounce_does_not_wait_longer_than_it_says(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy([on("a", start=AUDIT, debounce=Debounce(quiet=60, longest=100), take="all")])
    come(client, bench, 1)
    later(bench, 55)
    come(client, bench, 2)

    later(bench, 46)
    bench.fire()

    assert inputs(bench, "audit") == [[1, 2]]


@pytest.mark.parametrize(("take", "second"), [("latest", [4]), ("first", []), ("all", [[2, 3, 4]])])
def test_throttle_starts_one_run_in_a_period(
    client: Client, bench: Bench, take: str, second: list[Any]
) -> None:
    client.subscriptions.deploy([on("a", start=AUDIT, throttle=60, take=take)])
    come(client, bench, 1, 2, 3)
    come(client, bench, 4)
    first = [[1]] if take == "all" else [1]
    assert inputs(bench, "audit") == first
    come(client, bench, 9, key="other")
    assert len(inputs(bench, "audit")) == 2

    later(bench, 61)
    bench.fire()
    assert inputs(bench, "audit")[2:] == second

    come(client, bench, 5)  # the held ones' start has shut the gate again
    assert len(inputs(bench, "audit")) == (2 + len(second) if second else 3)


def test_a_debounced_start_waits_for_its_throttle(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy([on("a", start=AUDIT, debounce=10, throttle=100)])
    come(client, bench, 1)
    later(bench, 11)
    bench.fire()
    come(client, bench, 2)

    later(bench, 50)
    bench.fire()
    assert inputs(bench, "audit") == [1]
    later(bench, 51)
    bench.fire()
    assert inputs(bench, "audit") == [1, 2]


def test_many_copies_debounce_together(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy([on("a", start=AUDIT, debounce=1.0, take="all")])
    sent: list[tuple[float, Ready]] = []

    with Copy(bench.url, sent), Copy(bench.url, sent), Copy(bench.url, sent):
        for number in range(200):
            client.emit("a", number, key=f"k{number % 5}")
        eventually(lambda: len(sent) >= 5, timeout=20)

    given = sorted(inputs(bench, "audit"))
    assert given == [list(range(first, 200, 5)) for first in range(5)]
    assert len(sent) == 5


def test_an_input_that_does_not_fit_sets_all_that_was_held_aside(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy([on("a", start=STRICT, debounce=5, take="all")])
    come(client, bench, 1, 2)

    later(bench, 6)
    bench.fire()

    reasons = [one.reason or "" for e in client.inbox.recent() for one in e.deliveries]
    assert len(reasons) == 2
    assert all("is not of type" in reason for reason in reasons)
    assert bench.query("SELECT held, due_at FROM event_gates") == [(0, None)]


# --- deploying --------------------------------------------------------------------------------------------


def versions(bench: Bench) -> list[tuple[int, bool]]:
    return bench.query("SELECT version, replaced_at IS NULL FROM subscriptions ORDER BY version")  # type: ignore[return-value]


def test_a_subscription_that_changes_gets_a_new_version_and_an_old_worker_does_not_bring_it_back(
    client: Client, bench: Bench
) -> None:
    old, new = on("a", start=AUDIT, name="s"), on("a", start=TRIAGE, name="s")
    assert client.subscriptions.deploy([old]) == ["s"]
    assert client.subscriptions.deploy([old]) == []
    client.subscriptions.pause("s")
    assert client.subscriptions.deploy([new], newest=False) == ["s"]
    assert client.subscriptions.deploy([old], newest=False) == []

    one = client.subscriptions.get("s")
    assert (one.version, one.start, one.enabled) == (2, "triage", False)
    assert client.subscriptions.deploy([old]) == ["s"]
    assert versions(bench) == [(1, False), (2, False), (3, True)]


def test_a_subscription_is_paused_resumed_and_removed(client: Client, bench: Bench) -> None:
    client.subscriptions.deploy([on("a", start=AUDIT, name="s")])
    come(client, bench, 1)
    client.subscriptions.pause("s")
    come(client, bench, 2)
    client.subscriptions.resume("s")
    come(client, bench, 3)
    client.subscriptions.remove("s")
    come(client, bench, 4)

    assert inputs(bench, "audit") == [1, 3]
    assert client.subscriptions.all() == []
    client.subscriptions.deploy([on("a", start=AUDIT, name="s")])
    come(client, bench, 5)
    assert inputs(bench, "audit") == [1, 3, 5]


def test_what_a_subscription_says_survives_the_database(client: Client, bench: Bench) -> None:
    made: Reaction = on(
        "a.*",
        start=AUDIT,
        when="event.x > 1",
        key="event.k",
        debounce=2,
        throttle=5,
        take="all",
        labels={"b": "c"},
    )
    client.subscriptions.deploy([made])

    one = client.subscriptions.get("audit.a")

    fields = made.subscription.model_dump()
    assert json.loads(one.model_dump_json(include=set(fields))) == json.loads(
        made.subscription.model_dump_json()
    )
    assert (one.debounce, one.started, one.held, one.failed) == (Debounce(quiet=2, longest=20), 0, 0, 0)
