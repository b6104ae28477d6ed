"""One kind of thing that is masked: how it looks, and what stands in its place."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import merge

LONG = 20
"""Characters of a word that may hold a token."""


@dataclass(frozen=True, eq=False)
class Kind:
    """What it is, and how it is found.

    To look for a fixed piece costs a hundredth of what a regular expression does that begins anywhere. Texts come from
    anybody: what could follow a mark and then turn out to be none has to have a greatest length, or a text that
    repeats the mark takes time by the square of its length.
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
    alike: re.Pattern[str] | None = None
    """All that begin in one of these end as the first of them does: where that is none, none is."""
    more: re.Pattern[str] | None = None
    """What follows belongs to it, too, as far as this goes: its pattern itself decides after so many characters."""

    def masked(self, text: str, low: str) -> tuple[str, int]:
        """The text without any of this kind, and how many were there. `low` is the text in small letters."""
        if not self._is_marked(text, low):
            return text, 0
        made, done, times = [], 0, 0
        for start, end in self._spans(text, low):
            made += [text[done:start], f"<{self.name}>"]
            done, times = end, times + 1
        return ("".join((*made, text[done:])), times) if times else (text, 0)

    def may_be_in(self, text: str, low: str) -> bool:
        """Whether there could be one in a JSON text, where a letter before it may be the end of `\\n`."""
        if not self.marks:
            return self.pattern.search(text) is not None
        if not self._is_marked(text, low):
            return False
        done = 0
        for at, begin in self._places(text, low):
            if at >= done:
                if self.pattern.match(text, begin) is not None:
                    return True
                done = self._same_end(text, begin)
        return False

    def _is_marked(self, text: str, low: str) -> bool:
        """Whether one could begin anywhere. Most texts are short and hold none, and every step has some of them."""
        if not self.marks:
            return True
        searched = low if self.folded else text
        for mark in self.marks:  # noqa: SIM110  half as long as any()
            if mark in searched:
                return True
        return False

    @cached_property
    def _group(self) -> int | str:
        return "it" if "it" in self.pattern.groupindex else 0

    def _spans(self, text: str, low: str) -> Iterator[tuple[int, int]]:
        """What is to be masked, one after the other."""
        if self.marks:
            yield from self._marked(text, low)
            return
        for match in self.pattern.finditer(text):
            start, end = self._span(text, match)
            if start >= 0:
                yield start, end

    def _marked(self, text: str, low: str) -> Iterator[tuple[int, int]]:
        """As `_spans`. What was found is not read again: a text that is made of marks takes no longer than others."""
        done = 0
        for at, begin in self._places(text, low):
            if at < done or not self._may_begin(text, begin):
                continue
            match = self.pattern.match(text, begin)
            if match is None:
                done = max(done, self._same_end(text, begin))
                continue
            start, end = self._span(text, match)
            if start >= done:
                rest = self.more.match(text, end) if self.more is not None else None
                done = rest.end() if rest is not None else end
                yield start, done

    def _same_end(self, text: str, at: int) -> int:
        """Up to where none begins, since one that begins here is none."""
        word = self.alike.match(text, at) if self.alike is not None else None
        return word.end() if word is not None else 0

    def _may_begin(self, text: str, at: int) -> bool:
        return self.before is not None or self.inside or _is_boundary(text, at)

    def _places(self, text: str, low: str) -> Iterator[tuple[int, int]]:
        """Each mark, and where what it belongs to begins."""
        searched = low if self.folded else text
        ways = [_places_of(mark, searched) for mark in self.marks]
        for at in merge(*ways) if len(ways) > 1 else ways[0]:
            yield at, max(0, at - self.back)

    def _span(self, text: str, match: re.Match[str]) -> tuple[int, int]:
        """What is to be masked; it begins before all others if it is none of this kind."""
        begin, (start, end) = match.start(), match.span(self._group)
        if self.before is not None:
            first = self.before.search(text, max(0, begin - 64), begin)
            if first is None:
                return -1, -1
            begin = start = first.start()
        if not self.inside and not _is_boundary(text, begin):
            return -1, -1
        if self.valid is not None and not self.valid(match[self._group]):
            return -1, -1
        return start, end


def small(text: str) -> str:
    """In small letters, each in its place: there is one letter whose small form is two."""
    if text.isascii():
        return text.lower()
    return text.replace("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}", "i").lower()


def _places_of(mark: str, text: str) -> Iterator[int]:
    at = text.find(mark)
    while at >= 0:
        yield at
        at = text.find(mark, at + 1)


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
