"""`baton events listen`: a real process takes in what is signed, once, and refuses everything else with a reason."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
import time
from typing import Any

import httpx
import pytest

from orchestrator.client import Client
from orchestrator.incoming.inbox import MAX_PAYLOAD, Inbox
from orchestrator.incoming.signatures import secrets_of, sign
from orchestrator.incoming.webhooks import Webhooks
from orchestrator.store.connect import Pool
from schemas.errors import InputError
from tests.support import Process, Processes, eventually

OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
PROGRAM = "from orchestrator.cli import main; main()"


class Sender:
    """Sends signed messages as another system would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self, id: str, body: Any, path: str = "", *, secret: str = NEW, late: float = 0, **headers: str
    ) -> httpx.Response:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        at = int(time.time() - late)
        signed = {
            "webhook-id": id,
            "webhook-timestamp": str(at),
            "webhook-signature": f"v1,AAAA {sign(secrets_of(secret)[0], id, at, sent)}",
        }
        return httpx.post(f"{self.url}/{path}", content=sent, headers=signed | headers, timeout=10)


@pytest.fixture
def listener(migrated: str, redis_url: str, processes: Processes) -> tuple[Process, Sender]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        "BATON_DATABASE_URL": migrated,
        "BATON_BROKER_URL": redis_url,
        "BATON_WEBHOOK_SECRET": f"{OLD} {NEW}",
    }
    words = (sys.executable, "-c", PROGRAM, "events", "listen", "--port", str(port), "--tenant", "east")
    process = processes.start(*words, name="listener", env=env)
    url = f"http://127.0.0.1:{port}"

    def listens() -> None:
        assert process.alive, process.text()
        try:
            assert httpx.get(url).status_code == 405
        except httpx.TransportError as error:
            raise AssertionError(error) from error

    eventually(listens, timeout=30)
    return process, Sender(url)


def test_what_is_signed_is_taken_in_once_and_nothing_else(
    listener: tuple[Process, Sender], client: Client
) -> None:
    process, send = listener
    event = {"type": "ticket.created", "data": {"id": 7}, "key": "acme", "timestamp": "2026-11-21T00:00:00Z"}

    # What is signed is stored, once
    first = send("m-1", event)
    assert (first.status_code, first.json()["created"]) == (202, True)
    again = send("m-1", event, secret=OLD)
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert send("m-2", [1, 2], "ticket.closed?key=b%20c").status_code == 202
    assert send("m-3", b"", "pinged").status_code == 202

    # What is not believed, or makes no sense, is refused with a reason
    stranger = f"whsec_{base64.b64encode(b'x' * 32).decode()}"
    refusals = [
        (401, "no signature", send("n-1", event, secret=stranger)),
        (401, "seconds ago", send("n-2", event, late=400)),
        (401, "seconds ago", send("n-3", event, late=-400)),
        (401, "no number", send("n-4", event, **{"webhook-timestamp": "soon"})),
        (401, "seconds ago", send("n-4", event, **{"webhook-timestamp": "1" + "0" * 400})),
        (401, "no signature", send("n-5", event, **{"webhook-id": "other"})),
        (401, "webhook-id", send("", event)),
        (400, "not JSON", send("n-6", b"{", "a")),
        (409, "already", send("m-1", event | {"data": 8})),
        (413, "bytes", send("n-7", b"1" * (MAX_PAYLOAD + 1), "a")),
        (422, "names no type", send("n-8", {"data": 1})),
        (422, "is not like", send("n-9", 1, "a/b")),
        (422, "no text", send("n-10", event | {"key": 7})),
        (405, "posted", httpx.get(send.url)),
    ]
    for status, reason, response in refusals:
        assert (response.status_code, response.json()["status"]) == (status, status), response.text
        assert reason in response.json()["detail"]
        assert response.headers["content-type"] == "application/problem+json"
    found = {e.id: (e.type, e.key, e.payload, e.tenant) for e in client.inbox.recent()}
    assert found == {
        "m-1": ("ticket.created", "acme", {"id": 7}, "east"),
        "m-2": ("ticket.closed", "b c", [1, 2], "east"),
        "m-3": ("pinged", None, None, "east"),
    }
    assert process.alive


def test_a_listener_whose_postgres_is_away_says_so() -> None:
    nowhere = Pool("postgresql://nobody@127.0.0.1:1/none")
    app = Webhooks(Inbox(nowhere), secrets_of(NEW))
    at = int(time.time())
    headers = {
        "webhook-id": "a",
        "webhook-timestamp": str(at),
        "webhook-signature": sign(secrets_of(NEW)[0], "a", at, b"1"),
    }

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            return await http.post("/ticket.created", content=b"1", headers=headers)

    answer = asyncio.run(post())

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("text", ["whsec_", "plain", f"{OLD} whsec_AAAA"])
def test_a_secret_that_is_too_short_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        secrets_of(text)
