"""What is said piece by piece: held back as long as the next piece could make a secret of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from orchestrator.credentials import longest_phrase

LONGEST = 8_000
"""Characters that are held back at most."""

_WORD = re.compile('[^\\s"\x80-\U0010ffff]+')
"""What no token goes beyond: it has no spaces, no quotes, and nothing but ASCII."""
_STICKY = re.compile(
    r"\d|[:=]$|^[A-Z]{2}$|(?i:bearer|basic|token|key|passw|passphrase|secret|credential)|^[`'(+:=-]+$"
)
"""A word that may belong to what follows it: groups of a number, names of secrets, what announces one."""
_BLOCK = re.compile(r"-----BEGIN(?![\s\S]*-----END[A-Z ]*-----)")


class Said(NamedTuple):
    """A piece that may be shown."""

    about: Mapping[str, Any]
    text: str


class Discretion:
    """Of what an attempt says, gives on what can be judged. Safe from many threads."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        self._mask = mask
        self._held: dict[Any, Said] = {}
        """By the call that says it."""
        self._lock = threading.Lock()

    def said(self, about: Mapping[str, Any], text: str) -> list[Said]:
        """What may be shown now."""
        with self._lock:
            key = about.get("call")
            held = self._held.pop(key, None)
            before = self._shown([held]) if held is not None and held.about != about else []
            whole = text if held is None or before else held.text + text
            cut = len(whole) if len(whole) > LONGEST else self._cut(whole)
            if whole[cut:]:
                self._held[key] = Said(about, whole[cut:])
            return before + self._shown([Said(about, whole[:cut])])

    def rest(self) -> list[Said]:
        """What was held back."""
        with self._lock:
            held = list(self._held.values())
            self._held.clear()
            return self._shown(held)

    def _cut(self, text: str) -> int:
        """How much of it may be shown now: nothing, where that would cut something in two that is masked as a whole."""
        cut = _safe(text)
        if cut == 0:
            return 0
        whole = self._mask(text[:cut]) + self._mask(text[cut:]) == self._mask(text)
        return cut if whole else 0

    def _shown(self, pieces: list[Said]) -> list[Said]:
        return [Said(piece.about, self._mask(piece.text)) for piece in pieces if piece.text]


def _safe(text: str) -> int:
    """How much of a text ends before a word that is still being said, and before those that may belong to it."""
    end = max(0, len(text) - longest_phrase())
    block = _BLOCK.search(text, 0, end)
    end = block.start() if block is not None else end
    words = list(_WORD.finditer(text, 0, end))
    first = len(words)
    if words and words[-1].end() == end:
        first -= 1
    while first > 0 and _STICKY.search(words[first - 1][0]):
        first -= 1
    return words[first].start() if first < len(words) else end
