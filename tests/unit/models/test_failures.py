"""What a failure of a provider is told as: which model, where, and why; nothing that it repeats of a request."""

from __future__ import annotations

import logging
import socket

import pytest
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError

from schemas import Breaker, Price
from schemas.errors import CircuitOpen
from workers import Model
from workers.models.failures import ModelFailed, ModelRefused, address, failure
from workers.models.standing_in import WINDOW, StandIns

URL = "https://ann:pass@models.example.org:8443/v1/?key=abc#x"
LOCAL = Model("openai:qwen3", base_url="http://models:1/v1", price=Price(input=0, output=0))
MINI = Model("openai:gpt-5-mini")


def refused(status: int, body: object = None, model: Model = LOCAL) -> ModelFailed | ModelRefused:
    return failure(model, ModelHTTPError(status, model.id, body), URL)


def test_a_url_is_shown_without_credentials_and_query() -> None:
    assert address(URL) == "https://models.example.org:8443/v1"
    assert address("http://[::1]:80/v1/") == "http://[::1]:80/v1"


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 9)"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named_and_asked_again(cause: OSError, told: str) -> None:
    error = ModelAPIError("qwen3", "Connection error.")
    error.__cause__ = OSError("All connection attempts failed")
    error.__cause__.__cause__ = cause

    failed = failure(LOCAL, error, URL)

    assert str(failed) == f"qwen3 cannot be reached at https://models.example.org:8443/v1: {told}"
    assert isinstance(failed, ModelFailed)
    assert failed.says_all


def test_what_is_not_understood_still_names_model_and_url() -> None:
    failed = failure(LOCAL, ValueError("half\nan  answer " + 500 * "x"), URL)
    assert str(failed).startswith("qwen3 at https://models.example.org:8443/v1: half an answer xxx")
    assert len(str(failed)) < 400
    assert "pass" not in str(failed)
    assert failure(MINI, ValueError("half"), None).args == ("gpt-5-mini: half",)


@pytest.mark.parametrize(
    ("model", "told"), [(LOCAL, "mend its name or base_url: no such"), (MINI, "mend its name: no such")]
)
def test_a_model_that_is_not_there_is_named_with_its_url(model: Model, told: str) -> None:
    failed = refused(404, {"message": "no such"}, model)
    assert str(failed) == f"there is no model {model.id} at https://models.example.org:8443/v1 (404), {told}"
    assert isinstance(failed, ModelRefused)
    assert failed.elsewhere


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ModelRefused), (401, ModelRefused), (429, ModelFailed), (503, ModelFailed)]
)
def test_of_a_body_only_the_message_is_told(status: int, kind: type) -> None:
    failed = refused(status, {"error": {"message": "it was\n too much", "asked": "my card is 4111"}})
    assert isinstance(failed, kind)
    assert str(status) in str(failed)
    assert str(failed).endswith(": it was too much")
    assert "4111" not in str(failed)


@pytest.mark.parametrize(
    "body", [None, "<html>secret</html>", {"asked": "secret"}, ["secret"], {"message": 7}]
)
def test_a_body_without_a_message_is_not_told(body: object) -> None:
    assert str(refused(503, body)) == "qwen3 at https://models.example.org:8443/v1 answered 503"


# --- what workers log of models that stand in --------------------------------------------------------------


def test_that_a_model_stands_in_is_logged_once_in_a_window(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    said = StandIns(lambda: now[0])

    def tell(status: int = 503, agent: str = "clerk", model: Model = LOCAL) -> int:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            said.tell(agent, model, refused(status, {"message": "my card is 4111"}), MINI)
        assert "4111" not in caplog.text
        return len(caplog.records)

    assert tell() == 1
    assert caplog.messages[0].startswith(
        "agent clerk: openai:gpt-5-mini answers instead of openai:qwen3: 503;"
    )
    assert [tell(), tell(agent="other"), tell(401), tell(401), tell()] == [0, 1, 1, 0, 0]
    now[0] = WINDOW - 1
    assert tell() == 0
    now[0] = WINDOW
    assert tell() == 1
    guarded = Model(LOCAL.name, LOCAL.base_url, price=LOCAL.price, breaker=Breaker(open=7))
    assert tell(model=guarded) == 0  # the window of the first is not over
    now[0] += WINDOW
    assert tell(model=guarded) == 1
    now[0] += 7
    assert tell(model=guarded) == 1


def test_an_open_circuit_is_a_cause_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        StandIns().tell("clerk", LOCAL, CircuitOpen("the circuit of model openai:qwen3 is open"), MINI)
    assert "instead of openai:qwen3: its circuit is open; not said again for 60 s" in caplog.text
