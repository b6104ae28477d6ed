"""Secrets that are said piece by piece."""

from __future__ import annotations

import pytest

from orchestrator.credentials import longest_phrase
from workers.guards.masking import Mask
from workers.guards.policy import Guard
from workers.guards.speech import Discretion

TOKEN = "gh" + "p_" + "16C7e42F292c6912E7710c838347Ae178B4a"
PHRASE = "correct horse battery staple"
WORD = "one/word:with@all,sorts-of{signs}"
TEXT = (
    f'It is said: "{TOKEN}", by ada@example.org. Her password: 7rTz9kQw2LmX, her card 4111 1111 1111 1111,'
    f" and she says {PHRASE} or {WORD}. -----BEGIN PRIVATE KEY-----\n{'MIIEvQ' * 20}\n-----END PRIVATE KEY-----"
    " That is all."
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 40, 1000])
def test_nothing_is_told_of_a_secret_however_it_is_cut(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HER_SECRET", PHRASE)
    monkeypatch.setenv("HER_TOKEN", WORD)
    discretion = Discretion(Mask(Guard(personal="mask")).spoken)
    shown = []
    for at in range(0, len(TEXT), size):
        shown += discretion.said({"call": 1}, TEXT[at : at + size])
    shown += discretion.rest()

    assert "".join(piece.text for piece in shown) == (
        'It is said: "<secret:github>", by <email>. Her password: <secret:assigned>, her card <card>,'
        " and she says <HER_SECRET> or <HER_TOKEN>. <secret:private-key> That is all."
    )
    assert len(shown) > 3 or size == 1000


def test_only_for_a_phrase_more_is_held_back_than_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    held = longest_phrase()
    monkeypatch.setenv("A_DATABASE_URL", f"postgresql://her:{'w0rd,' * 50}@host/base")
    monkeypatch.setenv("A_TOKEN", WORD * 10)
    assert longest_phrase() == held
    monkeypatch.setenv("A_SECRET", PHRASE * 10)
    assert longest_phrase() == 2 * len(PHRASE * 10)


def test_what_is_about_something_else_is_held_back_for_itself() -> None:
    discretion = Discretion(str.upper)
    said = [
        discretion.said({"call": 1, "part": 0}, "one two"),
        discretion.said({"call": 2}, "three four"),
        discretion.said({"call": 1, "part": 1}, "five "),
        discretion.rest(),
    ]

    assert [[(piece.about, piece.text) for piece in pieces] for pieces in said] == [
        [({"call": 1, "part": 0}, "ONE ")],
        [({"call": 2}, "THREE ")],
        [({"call": 1, "part": 0}, "TWO"), ({"call": 1, "part": 1}, "FIVE ")],
        [({"call": 2}, "FOUR")],
    ]


def test_text_without_spaces_is_not_held_back_for_ever() -> None:
    discretion = Discretion(str)
    assert discretion.said({}, '{"lines":["a","b') != []
    assert [piece.text for piece in discretion.said({"call": 1}, "你好世界")] == ["你好世界"]
    shown = [piece for _ in range(900) for piece in discretion.said({"call": 2}, "abcdefghij")]
    assert sum(len(piece.text) for piece in shown) > 8_000
