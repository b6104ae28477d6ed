"""One kind of thing that is masked: how it looks, and what stands in its place."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

LONG = 20
"""Characters of a word that may hold a token."""


@dataclass(frozen=True, eq=False)
class Kind:
    """What it is, and how it is found.

    To look for a fixed piece costs a hundredth of what a regular expression does that begins anywhere.
    """

    name: str
    """Such as `email` or `secret:openai`; `<name>` is what stands in its place."""
    pattern: re.Pattern[str]
    """All of it is masked, or its group `it` where it has one."""
    marks: tuple[str, ...] = ()
    """Pieces with one of which each begins; without any, the pattern is looked for everywhere."""
    back: int = 0
    """Characters before its mark that belong to it."""
    before: re.Pattern[str] | None = None
    """What stands before its mark and belongs to it: found at the end of the 64 characters there."""
    folded: bool = False
    """Whether the marks, in small letters, may stand there in any."""
    in_long_word: bool = False
    """Whether it is, with what stands around it, at least `LONG` characters without a space: most texts have few."""
    inside: bool = False
    """Whether it may begin inside of a word."""
    needs: Kind | None = None
    """What is looked for first, once for several kinds: without it there is none of this."""
    valid: Callable[[str], bool] | None = None
    """What else has to be true of it: a checksum."""

    def masked(self, text: str, low: str) -> tuple[str, int]:
        """The text without any of this kind, and how many were there. `low` is the text in small letters."""
        made, done, times = [], 0, 0
        for match in self._candidates(text, low):
            start, end = self._span(text, match)
            if start < done:
                continue
            made += [text[done:start], f"<{self.name}>"]
            done, times = end, times + 1
        return ("".join((*made, text[done:])), times) if times else (text, 0)

    def may_be_in(self, text: str, low: str) -> bool:
        """Whether there could be one in a JSON text, where a letter before it may be the end of `\\n`."""
        return next(self._candidates(text, low), None) is not None

    @cached_property
    def _group(self) -> int | str:
        return "it" if "it" in self.pattern.groupindex else 0

    def _candidates(self, text: str, low: str) -> Iterator[re.Match[str]]:
        if not self.marks:
            return self.pattern.finditer(text)
        found = [match for mark in self.marks for match in self._at(mark, text, low if self.folded else text)]
        return iter(sorted(found, key=re.Match.start) if len(found) > 1 else found)

    def _at(self, mark: str, text: str, searched: str) -> Iterator[re.Match[str]]:
        if len(searched) != len(text):  # there are letters whose small form is two
            searched = text
        at = searched.find(mark)
        while at >= 0:
            match = self.pattern.match(text, max(0, at - self.back))
            if match is not None:
                yield match
            at = searched.find(mark, at + 1)

    def _span(self, text: str, match: re.Match[str]) -> tuple[int, int]:
        """What is to be masked; it begins before all others if it is none of this kind."""
        begin, (start, end) = match.start(), match.span(self._group)
        if self.before is not None:
            first = self.before.search(text, max(0, begin - 64), begin)
            if first is None:
                return -1, -1
            begin = start = first.start()
        is_one = self.inside or _is_boundary(text, begin)
        if not is_one or (self.valid is not None and not self.valid(match[self._group])):
            return -1, -1
        return start, end


def any_of(pieces: Iterable[str]) -> re.Pattern[str]:
    """Finds which of these pieces are in a text. Those with the same first letter are told apart behind it."""
    by_first: dict[str, list[str]] = {}
    for piece in sorted(set(pieces), key=len, reverse=True):
        by_first.setdefault(piece[0], []).append(re.escape(piece[1:]))
    return re.compile("|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in by_first.items()))


def _is_boundary(text: str, at: int) -> bool:
    """Whether no word goes on here. In JSON within a string, a letter may be the end of `\\n`."""
    if at == 0:
        return True
    before = text[at - 1]
    return not (before.isalnum() or before == "_") or (at > 1 and text[at - 2] == "\\")


def is_random(text: str) -> bool:
    """Whether this looks drawn by lot rather than written: letters and digits, few of them twice.

    3 bits for a character, of 8 characters and more: a measure of Shannon's, as gitleaks takes it (its `entropy`
    ranges from 2 to 4.5).
    """
    if len(text) < 8 or not any(c.isdigit() for c in text) or not any(c.isalpha() for c in text):
        return False
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts) >= 3.0
