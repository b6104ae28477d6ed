"""An event is a row first: once for each id, and part of its sender's transaction if it likes."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from orchestrator.client import Client
from orchestrator.incoming.inbox import MAX_PAYLOAD
from schemas.errors import IdempotencyConflict, InputError, NotFound
from tests.integration.engine.bench import Bench


def test_an_event_is_stored_with_all_that_it_says(client: Client) -> None:
    made = client.emit("ticket.created", {"id": 7}, key="acme", id="t-7", tenant="east")

    found = client.inbox.find("t-7", tenant="east")
    assert made.created
    assert (found.number, found.type, found.key, found.payload) == (
        made.number,
        "ticket.created",
        "acme",
        {"id": 7},
    )
    assert found.deliveries == ()
    assert client.inbox.recent(type="ticket.created", key="acme") == [found]
    assert client.inbox.recent(tenant="west") == []
    with pytest.raises(NotFound):
        client.inbox.find("t-7", tenant="west")


def test_an_event_is_stored_once_for_each_id_of_a_tenant(client: Client, bench: Bench) -> None:
    first = client.emit("a", {"x": 1, "y": 2}, id="one")
    again = client.emit("a", {"y": 2, "x": 1}, id="one")
    other = client.emit("a", {"x": 1}, id="one", tenant="other")

    assert (again.created, again.number) == (False, first.number)
    assert other.created
    with pytest.raises(IdempotencyConflict):
        client.emit("a", {"x": 3}, id="one")
    with pytest.raises(IdempotencyConflict):
        client.emit("b", {"x": 1, "y": 2}, id="one")
    assert bench.query("SELECT count(*) FROM incoming_events") == [(2,)]


def test_events_without_an_id_are_all_stored(client: Client, bench: Bench) -> None:
    assert client.emit("a", 1).id != client.emit("a", 1).id


def test_an_event_exists_if_and_only_if_its_transaction_commits(client: Client, bench: Bench) -> None:
    with psycopg.connect(bench.url) as conn:
        client.emit("a", 1, id="lost", connection=conn)
        conn.rollback()
        client.emit("a", 1, id="kept", connection=conn)
        assert bench.query("SELECT id FROM incoming_events") == []
        conn.commit()

    assert bench.query("SELECT id FROM incoming_events") == [("kept",)]


def test_a_refused_event_leaves_the_callers_transaction_alive(client: Client, bench: Bench) -> None:
    client.emit("a", 1, id="taken")
    with psycopg.connect(bench.url) as conn:
        with pytest.raises(IdempotencyConflict):
            client.emit("a", 2, id="taken", connection=conn)
        client.emit("a", 2, id="other", connection=conn)

    assert bench.query("SELECT count(*) FROM incoming_events") == [(2,)]


@pytest.mark.parametrize(
    ("event", "fault"),
    [
        pytest.param({"type": "a b"}, "type", id="a type with a blank"),
        pytest.param({"type": ""}, "type", id="no type"),
        pytest.param({"type": "a.*"}, "type", id="a pattern"),
        pytest.param({"type": "a", "key": ""}, "key", id="an empty key"),
        pytest.param({"type": "a", "key": "x" * 1_001}, "key", id="a long key"),
        pytest.param({"type": "a", "id": "\0"}, "id", id="an id that Postgres cannot store"),
        pytest.param({"type": "a", "tenant": "\0"}, "tenant", id="such a tenant"),
        pytest.param({"type": "a", "payload": object()}, "payload", id="what has no JSON form"),
        pytest.param({"type": "a", "payload": "x" * MAX_PAYLOAD}, "bytes", id="too large"),
        pytest.param({"type": "a", "payload": "\0"}, "NUL", id="a NUL"),
        pytest.param({"type": "a", "payload": float("nan")}, "cannot store", id="no number"),
    ],
)
def test_what_is_wrong_with_an_event_is_said(client: Client, event: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        client.emit(**event)

    assert client.inbox.recent() == []
