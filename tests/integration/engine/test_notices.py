"""People are told what waits for them: by a real HTTP server that fails, is slow, or forgets that it was told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import httpx
import pytest

from orchestrator.definitions.vocabulary import approve, fan_out, workflow
from orchestrator.incoming.signatures import fault, secrets_of
from orchestrator.people import notices
from orchestrator.people.notices import TRIES, Notifier, again
from orchestrator.people.targets import targets
from orchestrator.people.webhook import Webhook
from schemas.errors import InputError
from schemas.notices import Notice
from schemas.settings import Settings
from tests.integration.engine.bench import Bench, named
from tests.integration.engine.test_waits import approving, end, later, waits
from tests.support import eventually

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
A = named("a")


class Listener:
    """An HTTP server that keeps what it was sent, and answers as it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        """Status and headers of the next answers; 200 afterwards."""
        self.gate = threading.Event()
        self.gate.set()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                listener.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
                listener.gate.wait(10)
                status, headers = listener.answers.pop(0) if listener.answers else (200, {})
                self.send_response(status)
                for name, value in {**headers, "content-length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.seen]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def notifier(bench: Bench, listener: Listener) -> Notifier:
    return Notifier(bench.pool, [Webhook(listener.url, SECRET)])


def asked(bench: Bench, **policy: Any) -> UUID:
    """A run that waits for somebody."""
    run = bench.submit(workflow("w", approve("publish", message="Look!", **policy) >> A), {"x": 1})
    bench.drain()
    return run


def due(bench: Bench) -> None:
    """The time for the next tries has come."""
    bench.query("UPDATE notices SET due_at = now() WHERE due_at IS NOT NULL")


def test_a_notice_says_what_is_asked_and_is_signed(
    bench: Bench, listener: Listener, notifier: Notifier
) -> None:
    run = asked(bench, approvers=["ann"], expires=60)

    assert notifier.look() == 1

    ((headers, body),) = listener.seen
    assert (
        fault(
            secrets_of(SECRET),
            headers["webhook-id"],
            headers["webhook-timestamp"],
            headers["webhook-signature"],
            body,
            float(headers["webhook-timestamp"]),
        )
        is None
    )
    message = json.loads(body)
    data = message["data"]
    assert message["type"] == "approval.asked"
    assert (data["run_id"], data["step"], data["workflow"]) == (str(run), "0", "w")
    assert (data["wait"], data["name"], data["message"]) == (waits(bench, run)["0"], "publish", "Look!")
    assert (data["audience"], data["expires"], data["risk"]) == (["ann"], 60, "high")
    # The payload is for those who may see it
    assert "shown" not in data
    assert data["digest"].startswith("sha256:")
    # And it is sent once
    assert notifier.look() == 0
    due(bench)
    assert notifier.look() == 0


def test_two_secrets_sign_while_one_is_replaced(bench: Bench, listener: Listener) -> None:
    asked(bench)
    Notifier(bench.pool, [Webhook(listener.url, f"{SECRET} {OLD}")]).look()

    ((headers, body),) = listener.seen
    for secret in (SECRET, OLD):
        stamp = headers["webhook-timestamp"]
        signature = headers["webhook-signature"]
        assert fault(secrets_of(secret), headers["webhook-id"], stamp, signature, body, float(stamp)) is None


def test_what_becomes_of_it_is_told_as_well(bench: Bench, listener: Listener, notifier: Notifier) -> None:
    policy = {"approvers": ["ann"], "escalate_to": ["boss"], "escalate_after": 60, "expires": 300}
    run = asked(bench, **policy)
    notifier.look()
    later(bench, run, 60)
    notifier.look()
    end(bench, approving(waits(bench, run)["0"], by="boss"))
    notifier.look()

    kinds = [message["type"] for message in listener.messages]
    assert kinds == ["approval.asked", "approval.escalated", "approval.settled"]
    assert listener.messages[1]["data"]["audience"] == ["boss"]
    assert (listener.messages[2]["data"]["decision"], listener.messages[2]["data"]["by"]) == (
        "approved",
        "boss",
    )


def test_what_is_taken_back_is_told(bench: Bench, listener: Listener, notifier: Notifier) -> None:
    cancelled = asked(bench)
    late = bench.submit(workflow("late", fan_out(a=approve("a"), b=A, require=1, within=60)))
    bench.drain()
    notifier.look()

    bench.engine.cancel(cancelled)
    bench.query("UPDATE steps SET due_at = now() WHERE run_id = %s AND kind = 'fan_out'", late)
    bench.fire()
    notifier.look()

    told = [one["data"] for one in listener.messages if one["type"] == "approval.settled"]
    assert sorted((one["decision"], one["by"]) for one in told) == [
        ("withdrawn", "cancel"),
        ("withdrawn", "deadline"),
    ]


def test_a_medium_risk_is_told_while_it_goes_on(bench: Bench, listener: Listener, notifier: Notifier) -> None:
    run = asked(bench, risk="medium")
    asked(bench, risk="low")

    notifier.look()

    assert bench.end(run).output == {"x": 1}
    (message,) = listener.messages
    assert (message["type"], message["data"]["name"]) == ("approval.informed", "publish")


def test_what_fails_is_tried_again_under_the_same_id(
    bench: Bench, listener: Listener, notifier: Notifier
) -> None:
    asked(bench)
    listener.answers = [(500, {}), (429, {"retry-after": "3600"})]

    notifier.look()
    assert notifier.look() == 0  # not before its time
    ((error, soon),) = bench.query("SELECT error, due_at < now() + interval '6 s' FROM notices")
    assert "500" in error
    assert soon
    due(bench)
    notifier.look()
    assert bench.query("SELECT due_at > now() + interval '59 min' FROM notices") == [(True,)]
    due(bench)
    notifier.look()

    assert len({headers["webhook-id"] for headers, _ in listener.seen}) == 1
    assert len({body for _, body in listener.seen}) == 1
    assert bench.query("SELECT tries, due_at, error FROM notices") == [(3, None, None)]


def test_a_server_that_is_away_or_too_slow_is_tried_again(
    bench: Bench, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(bench)
    slow = Webhook(listener.url, SECRET)
    slow._client = httpx.Client(timeout=0.2)
    listener.gate.clear()
    Notifier(bench.pool, [slow]).look()
    ((error,),) = bench.query("SELECT error FROM notices")
    assert "ReadTimeout" in error
    listener.gate.set()

    due(bench)
    Notifier(bench.pool, [Webhook("http://127.0.0.1:9/", SECRET)]).look()

    ((error, open_),) = bench.query("SELECT error, due_at IS NOT NULL FROM notices")
    assert "ConnectError" in error
    assert open_


def test_it_is_given_up_in_the_end(bench: Bench, listener: Listener, notifier: Notifier) -> None:
    asked(bench)
    listener.answers = [(500, {})] * TRIES
    for _ in range(TRIES + 2):
        notifier.look()
        due(bench)

    assert len(listener.seen) == TRIES
    assert bench.query("SELECT tries, due_at FROM notices") == [(TRIES, None)]


def test_of_several_targets_only_the_one_that_failed_is_told_again(bench: Bench, listener: Listener) -> None:
    told: list[Notice] = []

    class Pager:
        name = "pager"

        def tell(self, notice: Notice) -> None:
            told.append(notice)
            if len(told) == 1:
                raise RuntimeError("busy\0")

    both = Notifier(bench.pool, [Webhook(listener.url, SECRET), Pager()])
    asked(bench)
    both.look()
    due(bench)
    both.look()

    assert len(listener.seen) == 1
    assert [notice.kind for notice in told] == 2 * ["approval.asked"]
    assert bench.query("SELECT due_at FROM notices") == [(None,)]


def test_many_copies_send_each_notice_once(bench: Bench, listener: Listener) -> None:
    for _ in range(20):
        asked(bench)
    copies = [Notifier(bench.pool, [Webhook(listener.url, SECRET)]) for _ in range(4)]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda one: one.look(), copies))

    assert len({headers["webhook-id"] for headers, _ in listener.seen}) == 20
    assert len(listener.seen) == 20


def test_a_copy_that_died_while_sending_is_replaced_and_changes_nothing_when_it_comes_back(
    bench: Bench, listener: Listener, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a copy that takes a notice and hangs while it sends it
    monkeypatch.setattr(notices, "LEASE", 0.0)
    asked(bench)
    listener.gate.clear()
    with ThreadPoolExecutor(1) as other:
        hanging = other.submit(notifier.look)
        eventually(lambda: bool(listener.seen))
        # When another one sends it again, and hears that it has not arrived
        listener.gate.set()
        hanging.result()
        bench.query("UPDATE notices SET due_at = now(), tries = 5, reached = '{}'")
        listener.answers = [(500, {})]
        notifier.look()

    # Then it will be tried again, and the receiver knows it by its id
    assert bench.query("SELECT tries, due_at IS NOT NULL FROM notices") == [(6, True)]
    assert len({headers["webhook-id"] for headers, _ in listener.seen}) == 1


def test_nobody_is_asked_about_what_is_decided_and_nothing_old_is_told(
    bench: Bench, listener: Listener, notifier: Notifier
) -> None:
    end(bench, approving(waits(bench, asked(bench))["0"]))
    asked(bench)
    bench.query("UPDATE notices SET at = now() - interval '2 days' WHERE kind = 'approval.asked'")

    notifier.look()

    assert [message["type"] for message in listener.messages] == ["approval.settled"]
    assert bench.query("SELECT count(*) FROM notices WHERE due_at IS NOT NULL") == [(0,)]


def test_a_notice_stands_or_falls_with_what_it_tells_of(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> approve("publish")))
    claimed = bench.claim(run, "0")
    bench.engine.cancel(run)

    assert not bench.finish(claimed).accepted

    assert bench.query("SELECT count(*) FROM notices") == [(0,)]


def test_tries_come_later_and_later() -> None:
    waits_ = [again(n, draw=lambda: 1.0) for n in range(1, TRIES)]

    assert waits_[:3] == [5.0, 15.0, 45.0]
    assert waits_ == sorted(waits_)
    assert 20 * 3600 < sum(waits_) < 36 * 3600
    assert again(3, draw=lambda: 0.0) == 22.5


def remember(notice: Notice) -> None:
    """A function that may be plugged in."""


def test_targets_are_what_the_environment_names() -> None:
    named_ = f"https://example.org/hook?token=x, {__name__}:remember"
    found = targets(Settings(notify=named_, notify_secret=SECRET))

    assert found[0].name.startswith("example.org#")
    assert "token" not in found[0].name
    assert found[1].name == f"{__name__}:remember"
    assert targets(Settings(notify="")) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"notify": "https://example.org"}, "BATON_NOTIFY_SECRET"),
        ({"notify": "https://example.org", "notify_secret": "short"}, "webhook secret"),
        ({"notify": "no.such.module:f"}, "neither a URL nor a module:function"),
        ({"notify": "json"}, "neither a URL nor a module:function"),
        ({"notify": f"{__name__}:SECRET"}, "cannot be called"),
    ],
)
def test_a_target_that_cannot_be_told_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        targets(Settings(**fields))
