"""Takes in events that other systems send as signed webhooks: an ASGI application, to be served or mounted.

Messages have the headers of Standard Webhooks. `POST /` takes their payload, `{"type": "ticket.created", "data": ...}`,
to which a `key` may be added; `POST /ticket.created?key=acme` any JSON, from senders that cannot choose theirs. The id
of the event is `webhook-id`, so a message that is sent again is stored once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from orchestrator.incoming.inbox import MAX_PAYLOAD, Inbox
from orchestrator.incoming.signatures import fault
from schemas.errors import BatonError, IdempotencyConflict, InputError, SchemaOutdated, Unavailable

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refusal(Exception):
    """A request that is not taken, as an HTTP status and the reason."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _Request(NamedTuple):
    path: str
    key: str | None
    headers: dict[str, str]
    body: bytes


class Webhooks:
    """An endpoint that believes whoever knows one of the secrets; its events are of one tenant."""

    def __init__(self, inbox: Inbox, secrets: Sequence[bytes], *, tenant: str | None = None) -> None:
        self._inbox = inbox
        self._secrets = secrets
        self._tenant = tenant

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        try:
            status, answer = await self._answer(await _read(scope, receive))
        except Refusal as refusal:
            status, answer = refusal.status, {"status": refusal.status, "detail": str(refusal)}
        await _respond(send, status, answer)

    async def _answer(self, request: _Request) -> tuple[int, dict[str, Any]]:
        id = request.headers.get("webhook-id", "")
        if not id:
            raise Refusal(401, "the header webhook-id is missing")
        timestamp = request.headers.get("webhook-timestamp", "")
        signatures = request.headers.get("webhook-signature", "")
        wrong = fault(self._secrets, id, timestamp, signatures, request.body, time.time())
        if wrong is not None:
            raise Refusal(401, wrong)
        type_, key, payload = _event(request)
        emit = partial(self._inbox.emit, type_, payload, key=key, id=id, tenant=self._tenant)
        try:
            made = await asyncio.to_thread(emit)
        except BatonError as error:
            raise Refusal(_status(error), str(error)) from error
        return (202 if made.created else 200), made.model_dump()


async def _read(scope: Message, receive: Receive) -> _Request:
    if scope["type"] != "http":
        raise Refusal(400, "this is no HTTP request")
    if scope["method"] != "POST":
        raise Refusal(405, "events are posted")
    # Where it is mounted, the path begins with where.
    path = scope["path"].removeprefix(scope.get("root_path", "")).strip("/")
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the sender is gone")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_PAYLOAD:
            raise Refusal(413, f"the body has more than {MAX_PAYLOAD:,} bytes")
    return _Request(path, query.get("key", [None])[0], headers, body)


def _event(request: _Request) -> tuple[str, str | None, Any]:
    """The type, the key and the payload."""
    try:
        body = json.loads(request.body) if request.body else None
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if request.path:
        return request.path, request.key, body
    match body:
        case {"type": str(type_), "data": data, **rest}:
            key = rest.get("key", request.key)
            if key is None or isinstance(key, str):
                return type_, key, data
            raise Refusal(422, "the key is no text")
    raise Refusal(422, 'the body is not {"type": ..., "data": ...}, and the path names no type')


def _status(error: BatonError) -> int:
    match error:
        case IdempotencyConflict():
            return 409
        case InputError():
            return 422
        case Unavailable() | SchemaOutdated():
            return 503
    log.error("a webhook could not be taken in: %s", error)
    return 500


async def _respond(send: Send, status: int, answer: dict[str, Any]) -> None:
    kind = b"application/json" if status < 300 else b"application/problem+json"
    headers = [(b"content-type", kind)] + ([(b"retry-after", b"1")] if status == 503 else [])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
