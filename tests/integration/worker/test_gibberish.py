"""Answers that are no answers of a model: an error page, another program's JSON, events of another shape."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from schemas import RunState
from tests.integration.worker.test_thinking import PRICE, SECRET, Desk, ask, desk, provided, writer
from workers import Model
from workers.scripted import answer

__all__ = ["desk"]

JSON, EVENTS = "application/json", "text/event-stream"

GIBBERISH = {
    "openai:gibberish": [
        (JSON, b'{"choices": "none"}'),
        (JSON, b'{"choices": [1]}'),
        (EVENTS, b'data: {"choices": "none"}\n\n'),
        (EVENTS, b'data: {"choices": [{"delta": "x"}]}\n\n'),
        (EVENTS, b"data: [1]\n\n"),
        (EVENTS, b"data: null\n\n"),
        (JSON, b"<html>welcome</html>"),
    ],
    "openai-responses:gibberish": [
        (JSON, b"{}"),
        (JSON, b"null"),
        (JSON, b"[1]"),
        (EVENTS, b'data: {"type": "response.created", "response": "x"}\n\n'),
        (EVENTS, b"data: [1]\n\n"),
    ],
    "anthropic:gibberish": [
        (JSON, b"{}"),
        (JSON, b"[1]"),
        (JSON, b'{"content": [1]}'),
        (EVENTS, b'event: message_start\ndata: {"type": "message_start", "message": "x"}\n\n'),
    ],
}


class Babble:
    """A server that gives one answer to everything."""

    def __init__(self) -> None:
        self.says = (JSON, b"")
        self.asked = 0
        babble = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                kind, body = babble.says
                babble.asked += 1
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def babble(monkeypatch: pytest.MonkeyPatch) -> Iterator[Babble]:
    made = Babble()
    monkeypatch.setenv("OPENAI_BASE_URL", f"{made.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", made.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    yield made
    made.close()


@pytest.mark.parametrize("model", GIBBERISH)
@pytest.mark.parametrize("kind", [JSON, EVENTS], ids=["whole", "streamed"])
def test_another_model_answers_instead_of_gibberish(
    desk: Desk, babble: Babble, model: str, kind: str
) -> None:
    # Given a model behind an address where something else answers
    own_url = f"{babble.url}/v1" if model.startswith("openai:") else None
    strange = Model(model, own_url, price=PRICE)
    said = [body for one, body in GIBBERISH[model] if one == kind]

    with provided(lambda asked: answer({"lines": ["ok"]})) as provider:
        sound = Model("openai:scripted", provider.base_url, price=PRICE)
        agent = writer(
            provider, model=None, base_url=None, price=None,
            models=[strange], fallbacks=[sound], stream=kind == EVENTS,
        )  # fmt: skip
        for body in said:
            babble.says = (kind, body)
            run = ask(desk, agent)

            assert desk.end(run).output == {"lines": ["ok"]}, body
    assert babble.asked == len(said)


def test_what_cannot_be_understood_is_told_with_the_model_and_its_address(desk: Desk, babble: Babble) -> None:
    babble.says = (EVENTS, GIBBERISH["openai:gibberish"][2][1])
    with provided([]) as provider:
        run = ask(desk, writer(provider, base_url=f"{babble.url}/v1", stream=True))

    end = desk.end(run)
    assert end.state == RunState.FAILED
    assert end.error is not None
    assert end.error.type == "ModelFailed"
    assert f"scripted at {babble.url}/v1: what it answers is not what a model answers" in end.error.message
    assert babble.asked == 3
