"""The worker's own credentials: wherever they turn up, their values are not stored, logged or shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

NAMES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_PASSWD", "_PASSPHRASE", "_CREDENTIALS", "PGPASSWORD")
"""Ends of the names of environment variables that hold a credential."""

SHORTEST = 8
"""Characters of a value that is looked for. A shorter one is a word that texts may hold for other reasons; as part of a
URL it is masked whatever its length."""

_URL = re.compile(r"://([^\s:/@]*):([^\s/@]+)@([^\s:/,]*)")
_ENDS = tuple(name.encode() for name in NAMES)


_ENVIRON: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
"""To look whether the environment is another one than before costs 2 us here, and 30 through `os.environ`."""

_held: set[str] = set()


def hold(name: str) -> None:
    """The variable of this name holds a credential, whatever its name ends with: an agent says so."""
    _held.add(name)
    _interesting.cache_clear()
    _known.cache_clear()


def own(text: str) -> str:
    """The text without credentials of this process's environment: `<NAME>` of the variable in their place.

    They are what stands in variables that end as `NAMES` say, or that are held, and the passwords of URLs in any.
    """
    pattern, names = _known(_found())
    if pattern is None:
        return text

    def replaced(match: re.Match[str]) -> str:
        found = match[0]
        mask = f"<{names[found]}>"
        return f":{mask}@" if found[0] == ":" and found[-1] == "@" else mask

    return pattern.sub(replaced, text)


def holds_own(text: str) -> bool:
    """Whether there is a credential of this process in a text, be it plain or JSON."""
    pattern, _ = _known(_found())
    return pattern is not None and pattern.search(text) is not None


def longest_phrase() -> int:
    """Characters of the longest credential that is more than one word of ASCII; mostly 0."""
    return _longest(_found())


@lru_cache(maxsize=8)
def _longest(variables: tuple[tuple[str, str], ...]) -> int:
    _, names = _known(variables)
    return max(
        (len(text) for text in names if not text.isascii() or '"' in text or text.split() != [text]),
        default=0,
    )


def _found() -> tuple[tuple[str, str], ...]:
    """The variables that count now: programs set some after they have started."""
    return _interesting(tuple(_ENVIRON.items()))


@lru_cache(maxsize=1)
def _interesting(environ: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (os.fsdecode(name), os.fsdecode(value))
        for name, value in environ
        if name.endswith(_ENDS) or b"://" in value or os.fsdecode(name) in _held
    )


@lru_cache(maxsize=8)
def _known(variables: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str] | None, dict[str, str]]:
    names: dict[str, str] = {}
    for name, value in variables:
        for text in _values(name, value):
            for form in _forms(text):
                names.setdefault(form, name)
    if not names:
        return None, names
    longest = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest))), names


def _values(name: str, value: str) -> Iterator[str]:
    for found in _URL.finditer(value):
        user, password, host = found.groups()
        yield f":{password}@"  # where it stands in its URL, whatever its length
        if len(unquote(password)) >= SHORTEST and unquote(password) not in (user, host):
            yield password
            yield unquote(password)
    if name.endswith(NAMES) or name in _held:
        whole = value.strip()
        if len(whole) >= SHORTEST:
            yield whole
        yield from (part for part in whole.split() if len(part) >= 2 * SHORTEST)


def _forms(text: str) -> set[str]:
    """As it is, in a JSON text, and in a URL."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    return {text, escaped, json.dumps(text)[1:-1], quote(text, safe=""), quote_plus(text)}
