"""An attack: a worker whose agents, models and tools let its credentials out by every way. They get nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import pytest
from psycopg import sql

from schemas import RunState
from tests.agents import leaking
from tests.integration.worker.stack import Stack, ready
from tests.integration.worker.test_timers import CeleryEvents
from tests.support import eventually
from workers.scripted import Asked, Reply, ScriptedProvider, call, refuse, text

KEY = "sk-scripted-" + "0123456789abcdef"
TOKEN = "a token with spaces, ümlauts \"quotes\" and \\ strokes"  # fmt: skip
PASSWORD = "tr0ub4dor&3/of:the@base"
HIDDEN = {
    "the key": KEY,
    "the token": TOKEN,
    "the password": PASSWORD,
    "the quoted password": quote(PASSWORD, safe=""),
}
"""What must not be found. A part of the token is enough to give it away."""
PARTS = {**HIDDEN, "a part of the token": "strokes", "a part of the password": "tr0ub4dor"}


def script(asked: Asked) -> Any:
    """A model that has the credentials from somewhere, and is asked in two runs."""
    known = f"{KEY}, {TOKEN} and {PASSWORD}"
    if "be refused" in asked.said:
        return refuse(401, f"Incorrect API key provided: {KEY}; {known}")
    turns: list[Any] = [
        Reply(text=f"I know {known}", calls=call("look", query=known).calls),
        call("fetch"),
        call("look", query=known, wrong=KEY),
        refuse(500, known) if not asked.again else call("pay", reference=known),
        text(f"It was {known}."),
    ]
    return turns[min(asked.turn, len(turns) - 1)]


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider(script) as made:
        yield made


def with_password(url: str) -> str:
    """The server trusts whoever comes, so any password will do."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{quote(PASSWORD, safe='')}@{place}"))


def rows(stack: Stack) -> dict[str, str]:
    """All rows of each table."""
    whole = "SELECT coalesce(string_agg(t::text, ' '), '') FROM {} t"
    tables = [name for (name,) in stack.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    return {name: stack.query(sql.SQL(whole).format(sql.Identifier(name)))[0][0] for name in tables}


def messages(stack: Stack) -> str:
    """All that Redis holds."""
    redis = stack.redis()
    return " ".join(f"{key!r} {redis.dump(key)!r}" for key in redis.scan_iter())


def test_credentials_are_nowhere(alone: Stack, provider: ScriptedProvider) -> None:
    env = {
        "BATON_APP": "tests.agents.leaking",
        "BATON_DATABASE_URL": with_password(alone.database_url),
        "TEST_PROVIDER": provider.url,
        "SCRIPTED_ACCESS": KEY,
        "CRM_TOKEN": TOKEN,
    }
    # Given a worker that knows them, and events as Flower has them
    agents = ("leaks", "sync_leaks", "leaking_model")
    worker = ready(alone.begin(*agents, extra=("-E",), **env))
    with CeleryEvents(alone) as events:
        # When they come out as output, error, traceback, note, stream, state, question, argument, result, and log
        plain = alone.submit(leaking.leaky, None)
        sync = alone.submit(leaking.sync_leaky, None)
        refused = alone.submit(leaking.leaky_model, "be refused")
        asked = alone.submit(leaking.leaky_model, "tell")
        eventually(lambda: alone.client.approvals(run_id=asked.id) or False, timeout=40)
        shown = [alone.client.approval(one.id) for one in alone.client.approvals(run_id=asked.id)]
        alone.client.answer(shown[0].id, True, by="ann")
        outputs = [plain.result(30), asked.result(30)]
        eventually(lambda: alone.client.run(refused.id).state == RunState.FAILED)
        eventually(lambda: alone.client.run(sync.id).state == RunState.FAILED)
        eventually(lambda: any(event["type"] == "task-failed" for event in events.heard))
        told = {
            **rows(alone),
            "redis": messages(alone),
            "the log": worker.text(),
            "what Flower knows": str(events.heard),
            "what people see": str([one.model_dump() for one in shown]),
            "outputs": str(outputs),
            "what the model was shown": " ".join(asked.said for asked in provider.log),
        }

    # Then each of them has left its name everywhere, and nothing more
    for name in (
        "events",
        "attempts",
        "steps",
        "journal",
        "tool_calls",
        "the log",
        "what people see",
        "outputs",
    ):
        for mark in ("<CRM_TOKEN>", "<BATON_DATABASE_URL>"):
            assert mark in told[name], name
    assert "<SCRIPTED_ACCESS>" in told["journal"]
    assert {
        (where, what) for where, text in told.items() for what, value in PARTS.items() if value in text
    } == set()
    assert provider.log[0].holds(KEY)
