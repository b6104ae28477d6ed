"""A worker's own credentials, wherever its environment has them from."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable, Iterator
from io import StringIO
from urllib.parse import quote

import pytest

from orchestrator.credentials import hold, own
from orchestrator.masking.logs import guard_logs, guard_streams
from orchestrator.masking.masker import OWN, Findings

VALUE = 'it is "quoted"\nand has\\two lines é'
PASSWORD = "p@ss-of-the-base"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_TOKEN", VALUE)
    monkeypatch.setenv("SHORT_KEY", "word")
    monkeypatch.setenv("BATON_DATABASE_URL", "postgresql://baton:p%40ss-of-the-base@db/baton")
    monkeypatch.setenv("OTHER_URL", "redis://:tiny@cache/0, redis://me:postgres@postgres/0")
    monkeypatch.setenv("ODDLY_NAMED", "held-by-an-agent")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"<{VALUE}>", "<<CRM_TOKEN>>"),
        (json.dumps({"a": VALUE}), '{"a": "<CRM_TOKEN>"}'),
        (json.dumps({"a": VALUE}, ensure_ascii=False), '{"a": "<CRM_TOKEN>"}'),
        (repr([VALUE]), "['<CRM_TOKEN>']"),
        (ascii(json.dumps(json.dumps([VALUE]))), """'"[\\\\"<CRM_TOKEN>\\\\"]"'"""),
        (f"?token={quote(VALUE, safe='')}", "?token=<CRM_TOKEN>"),
        ("p@ss-of-the-base, p%40ss-of-the-base", "<BATON_DATABASE_URL>, <BATON_DATABASE_URL>"),
        ("redis://:tiny@cache", "redis://:<OTHER_URL>@cache"),
        ("a word, a tiny one, on postgres", "a word, a tiny one, on postgres"),
    ],
    ids=["plain", "json", "unescaped", "shown", "shown json", "query", "password", "url", "word"],
)
def test_values_are_found_in_any_form_that_they_take(text: str, masked: str) -> None:
    assert own(text) == masked


def test_data_may_be_json_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"arguments": json.dumps({"a": VALUE}), "signature": VALUE})
    masked = json.loads(OWN.json(text, Findings()))

    assert json.loads(masked["arguments"]) == {"a": "<CRM_TOKEN>"}
    assert masked["signature"] == "<CRM_TOKEN>"
    # And what was not there before is found, too
    monkeypatch.setenv("LATE_SECRET", "came-later-than-that")
    assert own("came-later-than-that") == "<LATE_SECRET>"


def test_an_agent_says_which_variable_it_means() -> None:
    assert own("held-by-an-agent") == "held-by-an-agent"
    hold("ODDLY_NAMED")
    assert own("held-by-an-agent") == "<ODDLY_NAMED>"


@pytest.fixture
def unguarded() -> Iterator[None]:
    """Afterwards logs of this process are as they were."""
    make = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(make)


@pytest.mark.parametrize("before", ["", "a", "ab", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("value", ["swordfish", "p@ss-of-the-base", VALUE, "?>?>?>?>~~~~~~~~"])
def test_what_is_in_base64_is_found_wherever_it_begins(
    before: str, encode: Callable[[bytes], bytes], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_PASSWORD", value)
    token = encode(f"{before}{value} and more".encode()).decode()

    masked = own(f"Basic {token}.")

    assert "<" in masked
    assert len(re.sub("<.*?>", "", masked)) <= len(token) + 7 - len(value)


@pytest.mark.usefixtures("unguarded")
def test_logs_hold_none_in_texts_arguments_and_tracebacks() -> None:
    written = StringIO()
    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler(written))
    guard_logs()
    guard_logs()

    logger.warning("of %s and %d", PASSWORD, 7)
    try:
        open(PASSWORD).close()
    except OSError:
        logger.exception("failed", stack_info=True)

    said = written.getvalue()
    assert "of <BATON_DATABASE_URL> and 7" in said
    assert "No such file or directory: '<BATON_DATABASE_URL>'" in said
    assert said.count("Traceback") == 1
    assert PASSWORD not in said


@pytest.mark.usefixtures("unguarded")
def test_a_record_that_cannot_be_told_holds_up_nobody_and_shows_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(PASSWORD)

        __repr__ = __str__

    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler())
    guard_logs()

    logger.warning("of %d", PASSWORD)
    logger.warning("of %(it)d", {"it": PASSWORD})
    logger.warning("of %s", Broken())

    told = capsys.readouterr().err
    assert told.count("Arguments: ") == 2
    assert "of <Broken>" in told
    assert PASSWORD not in told


@pytest.mark.usefixtures("unguarded")
def test_of_the_urls_of_requests_logs_tell_where_they_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_NOTIFY", "my.module:function, https://chat.example.org/hooks/B0X1/way-in")
    written = StringIO()
    logger = logging.Logger("httpx")
    logger.addHandler(logging.StreamHandler(written))
    guard_logs()

    logger.warning('HTTP Request: %s %s "%d"', "POST", "https://chat.example.org/hooks/B0X1/way-in", 200)

    assert written.getvalue() == 'HTTP Request: POST https://chat.example.org/... "200"\n'
    assert own("no answer of https://chat.example.org/hooks/B0X1/way-in") == "no answer of <BATON_NOTIFY>"
    assert own("my.module:function") == "my.module:function"


def test_what_is_printed_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr("sys.stdout", written)
    monkeypatch.setattr("sys.stderr", StringIO())
    guard_streams()
    guard_streams()

    print("with", PASSWORD, flush=True)

    assert written.getvalue() == "with <BATON_DATABASE_URL>\n"
