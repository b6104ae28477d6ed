"""What is found, and what is not."""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from orchestrator.masking.kinds import Kind
from orchestrator.masking.masker import Findings
from tests.architecture.house import ROOT
from workers.guards.masking import masker, note
from workers.guards.personal import KINDS
from workers.guards.policy import Guard

RNG = random.Random(7)


def drawn(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(RNG.choices(alphabet, k=length))


def spelt(*parts: str) -> str:
    """A secret is put together here, so that no scanner of this repository takes it for one."""
    return "".join(parts)


# All of it is masked, or what stands between two bars.
HEX = "0123456789abcdef"
TOKENS = {
    "openai": [spelt("sk-", "proj-", drawn(60)), spelt("sk-", drawn(48))],
    "anthropic": [spelt("sk-", "ant-", "api03-", drawn(93), "AA")],
    "openrouter": [spelt("sk-", "or-v1-", drawn(64, HEX))],
    "google": [spelt("AI", "za", drawn(35))],
    "huggingface": [spelt("hf", "_", drawn(34))],
    "aws": [spelt("AK", "IA", drawn(16, string.ascii_uppercase + "234567"))],
    "azure": [spelt("abc8", "Q~", drawn(34))],
    "github": [spelt("gh", "p_", drawn(36)), spelt("github", "_pat_", drawn(82))],
    "gitlab": [spelt("gl", "pat-", drawn(20))],
    "npm": [spelt("npm", "_", drawn(36))],
    "slack": [spelt("xo", "xb-", "123456789012-", drawn(24)), f"hooks.slack.com/services/|{drawn(44)}|"],
    "stripe": [spelt("sk", "_live_", drawn(24)), spelt("rk", "_test_", drawn(24))],
    "webhook": [spelt("wh", "sec_", drawn(32))],
    "sendgrid": [spelt("SG", ".", drawn(22), ".", drawn(43))],
    "telegram": [spelt("12345678:|", "A", drawn(34), "|")],
    "jwt": [spelt("ey", "J", drawn(20), ".", "ey", "J", drawn(30), ".", drawn(43))],
    "private-key": [
        spelt("-----BEGIN RSA ", "PRIVATE KEY-----\n", drawn(64), "\n-----END RSA ", "PRIVATE KEY-----"),
        spelt("-----BEGIN ", "PRIVATE KEY-----\n", drawn(64)),
    ],
    "url": ["postgresql://app:|tr0ub4dor|@db.internal/app"],
    "query": ["https://api.example.org/v1?page=2&api_key=|marble-lantern|", "http://x/?Token=|0123456789|"],
    "authorization": [f"Bearer |{drawn(12)}7x{drawn(12)}|"],
    "assigned": [f"DB_PASSWORD=|{drawn(7)}4k{drawn(7)}|", f"api key: '|{drawn(9)}3z{drawn(9)}|'"],
}  # fmt: skip


def found(
    text: str, *, secrets: bool = True, personal: tuple[str, ...] = KINDS
) -> tuple[str, dict[str, int]]:
    findings = Findings()
    masked = masker(secrets, personal).text(text, findings)
    return masked, note(findings, "text").data["kinds"]


@pytest.mark.parametrize("around", ["{}", "it is {}, says he", '{{"key": "{}"}}', "line\n{}\nline", "({})"])
@pytest.mark.parametrize("name", TOKENS)
def test_a_secret_is_found_by_its_looks(name: str, around: str) -> None:
    for token in TOKENS[name]:
        hidden = token.split("|")[1] if "|" in token else token
        text = around.format(token.replace("|", ""))
        masked, kinds = found(text, personal=())

        assert kinds == {f"secret:{name}": 1}
        assert masked == text.replace(hidden, f"<secret:{name}>")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "ada.lovelace+notes@example.co.uk"),
        ("phone", "+44 20 7946 0958"),
        ("phone", "+1 (415) 555-0100"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB29NWBK60161331926819"),
        ("card", "4111 1111 1111 1111"),
        ("card", "378282246310005"),
        ("national-id", "078-05-1120"),
        ("national-id", "529.982.247-25"),
        ("national-id", "12345678Z"),
        ("national-id", "X1234567L"),
        ("national-id", "RSSMRA85T10A562S"),
        ("national-id", "2 69 05 49 588 157 80"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "Reach him: {}.", "line\n{}, line"])
def test_personal_data_is_found_by_its_form_and_checksum(kind: str, text: str, around: str) -> None:
    masked, kinds = found(around.format(text), secrets=False)

    assert kinds == {kind: 1}
    assert masked == around.format(f"<{kind}>")


@pytest.mark.parametrize(
    "text",
    [
        "DE89 3704 0044 0532 0130 01",  # a wrong checksum
        "4111 1111 1111 1112",
        "000-12-3456",
        "529.982.247-26",
        "12345678A",
        "RSSMRA85T10A562A",
        "2 69 05 49 588 157 81",
        "1.2.3.4",  # a version, unless it is asked for
        "+12",
        "a@b",
        "@pytest.fixture",
        "https://ada@example.org/",
        "2026-11-21T22:33:54.123456Z",
        "0000 0000 0000 0000",
        str(UUID(int=0x12345678123456781234567812345678)),
        "sk-learn, ask-first, task-force-of-the-north-and-south",
        "password: see the vault",
        "api_key=os.environ['NAME_OF_IT']",
        "postgresql://user:password@host:5432/name",
        "token = secrets.token_hex(16)",
        "eyJ",
        "AKIA",
    ],
    ids=lambda text: text[:8],  # the test's name is in the environment, where it is not to look like a URL
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert found(text) == (text, {})


def test_an_address_is_looked_for_where_that_is_asked_for() -> None:
    assert found("from 203.0.113.7 on", personal=("ip",)) == ("from <ip> on", {"ip": 1})


def test_wrong_hits_in_texts_without_any_secret_are_few() -> None:
    """This repository, and a thousand each of UUIDs, hashes, versions, times and large numbers."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("examples/**/*.py"), *ROOT.glob("orchestrator/engine/*.py")]
    texts = [file.read_text() for file in files]
    rng = random.Random(11)
    texts.append("\n".join(str(UUID(int=rng.getrandbits(128))) for _ in range(1000)))
    texts.append("\n".join(hashlib.sha256(str(n).encode()).hexdigest() for n in range(1000)))
    texts.append(
        "\n".join(hashlib.sha1(str(n).encode(), usedforsecurity=False).hexdigest() for n in range(1000))
    )
    texts.append("\n".join(f"{n % 9}.{n % 17}.{n}, v{n}.{n % 7}.0-rc{n % 5}" for n in range(1000)))
    texts.append(
        "\n".join(f"2026-11-{1 + n % 28:02d} {n % 24:02d}:{n % 60:02d}:07 {n * 7919}" for n in range(1000))
    )
    texts.append("\n".join(str(rng.randrange(10**9)) for n in range(1000)))
    total: Counter[str] = Counter()
    for text in texts:
        total.update(found(text)[1])

    assert sum(len(text) for text in texts) > 400_000
    assert sum(total.values()) <= 5, total


def test_data_keeps_its_shape() -> None:
    card, token = "4111111111111111", TOKENS["openai"][0]
    value: dict[str, Any] = {
        "people": [
            {"mail": "ada@example.org", "age": 36, "ok": True, "none": None, "card": 4111111111111112}
        ],
        "eve@example.org": "hello",
        "bob@example.org": "hello",
        "arguments": json.dumps({"to": "ada@example.org", "card": card, "note": f"line\n{token}"}),
        "secrets": {"password": "correct4horse2battery", "api_key": "none", "hint": "correct4horse2battery"},
    }
    findings = Findings()
    masked = json.loads(masker(True, Guard().kinds).json(json.dumps(value), findings))

    assert masked["people"] == [
        {"mail": "<email>", "age": 36, "ok": True, "none": None, "card": 4111111111111112}
    ]
    assert (masked["<email>"], masked["<email>'"]) == ("hello", "hello")
    assert json.loads(masked["arguments"]) == {
        "to": "<email>", "card": "<card>", "note": "line\n<secret:openai>",
    }  # fmt: skip
    assert masked["secrets"] == {
        "password": "<secret:named>", "api_key": "none", "hint": "correct4horse2battery",
    }  # fmt: skip
    told = note(findings, "output").data
    assert told["kinds"] == {"email": 4, "card": 1, "secret:openai": 1, "secret:named": 1}
    assert "people.0.mail" in told["fields"]
    assert "arguments.note" in told["fields"]
    assert "ada@" not in str(told)
    assert "eve@" not in str(told)


def test_what_holds_nothing_stays_as_it_is_to_the_letter() -> None:
    text = '{"a":  1.50, "b": "ünï", "password": "see below"}'
    assert masker(True, KINDS).json(text, Findings()) is text


def test_data_without_a_string_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vector of 3,000 numbers would take a millisecond."""
    monkeypatch.setattr(Kind, "may_be_in", lambda *_: pytest.fail("it was searched"))
    assert masker(True, KINDS).json("[0.25,-1,true,null]", Findings()) == "[0.25,-1,true,null]"


def test_whole_numbers_are_looked_at_as_their_digits() -> None:
    text = "[4111111111111111,269054958815780,4111111111111112,529982247,0.4111111111111111,1764000000000]"
    findings = Findings()

    assert json.loads(masker(True, KINDS).json(text, findings)) == [
        "<card>", "<national-id>", 4111111111111112, 529982247, 0.4111111111111111, 1764000000000,
    ]  # fmt: skip
    assert note(findings, "output").data["kinds"] == {"card": 1, "national-id": 1}
