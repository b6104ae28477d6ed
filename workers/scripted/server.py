"""The server of the scripted provider, on a thread of its own."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Self

import uvicorn

from schemas.usage import Price
from workers.scripted import embeddings, responses, wire
from workers.scripted.log import Answered, Asked, Wire, conversation_of, digest, turn_number
from workers.scripted.script import Refusal, Reply, Script, turn_of

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
EMBEDDINGS = "/v1/embeddings"
KEPT = 60
"""Seconds for which an idle connection stays open. Clients keep theirs for 5: whoever closes it first must not be the
server, or a request that is just being sent gets no answer, and nobody knows whether it was heard."""
PATHS: dict[str, Wire] = {
    "/v1/chat/completions": "openai",
    "/v1/responses": "responses",
    "/v1/messages": "anthropic",
}


class Cut(Exception):
    """The connection is to end here: the server closes it when its application fails."""


class ScriptedProvider:
    """Answers by its script while it is entered; `log` stays readable afterwards.

    What a script that is a function has raised is raised again at the end.
    """

    def __init__(self, script: Script, *, price: Price | None = None, port: int = 0) -> None:
        """`price` is what `usd` counts with, for whatever model it is asked for.

        Without a `port` it takes a free one: see `base_url`. Raises `OSError` if another program has that port.
        """
        self.log: list[Asked] = []
        self.answered: list[Answered] = []
        """What each answer would have cost, in their order; what is refused costs nothing."""
        self.embedded: list[str] = []
        """The texts of which vectors were asked for."""
        self.input_tokens = 0
        self.output_tokens = 0
        self._script = script
        self._price = price or Price(input=0, output=0)
        self._broken: Exception | None = None
        self._lock = threading.Lock()
        self._seen: Counter[tuple[str, int]] = Counter()
        self._socket = socket.create_server(("127.0.0.1", port))
        # Else a reply, which is sent in pieces, waits 40 ms for its client's acknowledgement.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="critical",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=KEPT,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="scripted", daemon=True
        )

    @property
    def url(self) -> str:
        """Where an Anthropic client is pointed to."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def base_url(self) -> str:
        """Where an OpenAI client is pointed to."""
        return f"{self.url}/v1"

    @property
    def usd(self) -> float:
        """What its replies would have cost."""
        return self._price.of(self.input_tokens, self.output_tokens)

    def __enter__(self) -> Self:
        self._thread.start()  # the socket listens already: who connects now is served in a moment
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        if self._broken is not None:
            raise self._broken

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if scope["path"] == EMBEDDINGS:
            await self._embed(body, send)
            return
        asked = self._noted(scope, body)
        if isinstance(asked, Refusal):
            await _refuse(asked, None, send)
            return
        try:
            turn = turn_of(self._script, asked)
        except Exception as error:  # noqa: BLE001  of the script, raised where it was written
            self._broken = error
            turn = Refusal(500, f"the script raised {error!r}")
        await asyncio.sleep(turn.delay)
        if isinstance(turn, Refusal):
            await _refuse(turn, asked, send)
            return
        await self._reply(turn, asked, send)

    async def _embed(self, body: bytes, send: Send) -> None:
        try:
            answer, texts, tokens = embeddings.answered(json.loads(body))
        except (ValueError, KeyError, TypeError) as error:
            await _refuse(Refusal(400, f"the request is none: {error!r}"), None, send)
            return
        with self._lock:
            self.embedded += texts
            self.input_tokens += tokens
        await send(_start(200, [(b"content-type", b"application/json")]))
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _noted(self, scope: dict[str, Any], body: bytes) -> Asked | Refusal:
        kind = PATHS.get(scope["path"])
        if kind is None or scope["method"] != "POST":
            return Refusal(
                404, f"no {scope['method']} {scope['path']} here, but POST {', '.join((*PATHS, EMBEDDINGS))}"
            )
        try:
            data = json.loads(body)
            if kind == "responses":
                data["messages"] = responses.messages_of(data)
            conversation, turn = conversation_of(data), turn_number(data)
        except (ValueError, KeyError, TypeError) as error:
            return Refusal(400, f"the request is none: {error!r}")
        headers = dict(scope["headers"])
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        credential = digest(given.decode("latin-1")) if given else None
        with self._lock:
            again = self._seen[conversation, turn]
            self._seen[conversation, turn] += 1
            asked = Asked(kind, data, conversation, turn, again, credential)
            self.log.append(asked)
        return asked

    async def _reply(self, reply: Reply, asked: Asked, send: Send) -> None:
        one = wire.said(reply, asked, len(self.log))
        with self._lock:
            self.input_tokens += one.input_tokens
            self.output_tokens += one.output_tokens
            usd = self._price.of(one.input_tokens, one.output_tokens)
            self.answered.append(Answered(asked, one.input_tokens, one.output_tokens, usd))
        kind = "text/event-stream" if asked.stream else "application/json"
        await send(_start(200, [(b"content-type", kind.encode())]))
        for piece in _spoilt(reply, list(_sent(one, asked))):
            if reply.pace and asked.stream:
                await asyncio.sleep(reply.pace)
            await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
        if reply.wrong == "cut":
            raise Cut
        await send({"type": "http.response.body", "body": b""})


def _sent(one: wire.Said, asked: Asked) -> Iterator[str]:
    form = responses if asked.wire == "responses" else wire
    if asked.stream:
        yield from form.pieces(one, asked)
    else:
        yield json.dumps(form.whole(one, asked))


def _spoilt(reply: Reply, parts: list[str]) -> list[str]:
    match reply.wrong:
        case "body":
            return [part.replace('"', "'") for part in parts]
        case "cut" if len(parts) > 1:
            return parts[: len(parts) // 2]
        case "cut":
            return [parts[0][: len(parts[0]) // 2]]
    return parts


async def _refuse(refusal: Refusal, asked: Asked | None, send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after is not None:
        # In whole seconds, as the header has it, and in milliseconds, as OpenAI's client reads it first.
        headers.append((b"retry-after", str(math.ceil(refusal.retry_after)).encode()))
        headers.append((b"retry-after-ms", str(round(refusal.retry_after * 1000)).encode()))
    await send(_start(refusal.status, headers))
    await send({"type": "http.response.body", "body": json.dumps(wire.error(refusal, asked)).encode()})


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body
