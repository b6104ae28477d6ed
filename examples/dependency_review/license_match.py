"""Finds licence texts in a file, and the lines on which they stand."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from examples.dependency_review.license_rules import EXCEPTIONS, FAMILIES, Family, notices

_AFTERWORD = 250
"""Characters after a licence's end in which a restriction may be appended to it."""
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Match:
    """A licence in a text: the whole `text` of it, or a `notice` that refers to it."""

    license: str
    kind: Literal["text", "notice"]
    line: int
    """Where it begins, from 1."""
    last_line: int
    start: int
    end: int


class Words:
    """A text as its words: case, punctuation, comment marks and line breaks do not matter.

    This is what the SPDX matching guidelines (annex B of the SPDX specification) tell to ignore.
    """

    def __init__(self, text: str) -> None:
        pieces: list[str] = []
        self._offsets: list[int] = []
        self._lines: list[int] = []
        offset = 1
        for number, line in enumerate(text.split("\n"), 1):
            if words := " ".join(_WORD.findall(line.lower())):
                pieces.append(words)
                self._offsets.append(offset)
                self._lines.append(number)
                offset += len(words) + 1
        self.text = f" {' '.join(pieces)} "

    def line(self, offset: int) -> int:
        """The line on which the word at this offset of `text` stands."""
        at = bisect_right(self._offsets, offset) - 1
        return self._lines[max(at, 0)] if self._lines else 1

    def find(self, phrase: str, start: int = 0, end: int | None = None) -> int:
        """The offset of the first whole-word occurrence, or -1."""
        at = self.text.find(f" {phrase} ", max(start - 1, 0), len(self.text) if end is None else end + 1)
        return at + 1 if at >= 0 else -1


def licenses_in(text: str) -> list[Match]:
    """Every licence text and notice in a file, in order; what lies within another text is left out."""
    words = Words(text)
    found = [match for family in FAMILIES for match in _family(words, family)]
    found += [_match(words, id, "notice", start, end) for id, start, end in notices(words.text)]
    found.sort(key=lambda one: (one.start, one.start - one.end))
    texts = [one for one in found if one.kind == "text"]
    kept = [one for one in found if not any(_within(one, other, words) for other in texts)]
    return [_with_exception(words, one) for one in kept]


def _family(words: Words, family: Family) -> Iterator[Match]:
    for head in family.heads:
        at = words.find(head)
        while at >= 0:
            # A word of English prose has about 5 letters; licences run a little longer.
            limit = at + family.reach * 7
            following = words.find(head, at + len(head))
            if 0 <= following < limit:
                limit = following
            end = _nearest(words, family.tails, at + len(head), limit)
            license = _variant(words, family, at, end) if end >= 0 else None
            if license:
                yield _match(words, license, "text", at, end)
            at = following


def _nearest(words: Words, tails: tuple[str, ...], start: int, limit: int) -> int:
    """The end of the nearest tail, or -1."""
    ends = [at + len(tail) for tail in tails if (at := words.find(tail, start, limit)) >= 0]
    return min(ends, default=-1)


def _variant(words: Words, family: Family, start: int, end: int) -> str | None:
    for variant in family.variants:
        says_after = not variant.after or words.find(variant.after, end, end + _AFTERWORD) >= 0
        if says_after and all(words.find(phrase, start, end) >= 0 for phrase in variant.having):
            return variant.license
    return None


def _match(words: Words, license: str, kind: Literal["text", "notice"], start: int, end: int) -> Match:
    return Match(license, kind, words.line(start), words.line(end - 1), start, end)


def _within(one: Match, text: Match, words: Words) -> bool:
    """Whether a text holds this match, or proposes it in its appendix "How to apply these terms"."""
    if one is text or one.start < text.start:
        return False
    if one.kind == "notice" and one.end > text.end:
        return words.find("how to apply", text.end, text.end + 150) >= 0 and one.start - text.end < 2500
    return one.end <= text.end and (one.kind == "notice" or one.license != text.license)


def _with_exception(words: Words, match: Match) -> Match:
    """GPL texts and notices whose file adds a permission, such as that of the GCC runtime."""
    if not match.license.startswith(("GPL", "Apache")):
        return match
    for exception, phrase in EXCEPTIONS:
        suits = ("Apache" in match.license) == (exception == "LLVM-exception")
        if suits and words.find(phrase) >= 0:
            return Match(f"{match.license} WITH {exception}", match.kind, *_place(match))
    return match


def _place(match: Match) -> tuple[int, int, int, int]:
    return match.line, match.last_line, match.start, match.end
