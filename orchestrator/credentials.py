"""A process's own credentials: wherever they turn up but in what it was given, their values are not stored or shown."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

NAMES = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_PASSWD", "_PASSPHRASE", "_CREDENTIALS", "PGPASSWORD")
"""Ends of the names of environment variables that hold a credential."""

ADDRESSES = ("_NOTIFY", "_WEBHOOK", "_WEBHOOK_URL")
"""Ends of the names of those that hold URLs which let in whoever knows them."""

SHORTEST = 8
"""Characters of a value that is looked for. A shorter one is a word that texts may hold for other reasons; as part of a
URL it is masked whatever its length."""

_URL = re.compile(r"://([^\s:/@]*):([^\s/@]+)@([^\s:/,]*)")
_PLAIN = re.compile(r"[a-zA-Z0-9_.~-]+")
"""What is written the same everywhere."""
_WORD = re.compile(r"[!#-~]+")
"""ASCII without spaces and double quotes, of which every form is such a word, too."""
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
    pattern, names, pieces = _known(_found())
    if pattern is None or not any(piece in text for piece in pieces):
        return text

    masks = list(names.items())

    def replaced(match: re.Match[str]) -> str:
        value, name = masks[(match.lastindex or 1) - 1]
        return f":<{name}>@" if value[0] == ":" and value[-1] == "@" else f"<{name}>"

    return pattern.sub(replaced, text)


def holds_own(text: str) -> bool:
    """Whether there is a credential of this process in a text, be it plain or JSON."""
    pattern, _, pieces = _known(_found())
    if pattern is None or not any(piece in text for piece in pieces):
        return False
    return pattern.search(text) is not None


def longest_phrase() -> int:
    """Characters of the longest credential that is more than one word of ASCII; mostly 0."""
    return _longest(_found())


@lru_cache(maxsize=8)
def _longest(variables: tuple[tuple[str, str], ...]) -> int:
    phrases = [text for text in _known(variables)[1] if not _WORD.fullmatch(text)]
    return max((2 * len(text) for text in phrases), default=0)


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
def _known(
    variables: tuple[tuple[str, str], ...],
) -> tuple[re.Pattern[str] | None, dict[str, str], list[str]]:
    """What finds the values, each in a group of its own, in the order of the values with their names.

    And a piece of each that is in it in any form: most texts have none, which is found out fifty times as fast.
    """
    names: dict[str, str] = {}
    for name, value in variables:
        for text in _values(name, value):
            names.setdefault(text, name)
    if not names:
        return None, names, []
    names = {text: names[text] for text in sorted(names, key=len, reverse=True)}
    return (
        re.compile("|".join(f"({_in_any_form(text)})" for text in names)),
        names,
        [_piece(text) for text in names],
    )


def _values(name: str, value: str) -> Iterator[str]:
    for found in _URL.finditer(value):
        user, password, host = found.groups()
        yield f":{password}@"  # where it stands in its URL, whatever its length
        if len(unquote(password)) >= SHORTEST and unquote(password) not in (user, host):
            yield password
            yield from _with_base64(unquote(password))
    if name.endswith(ADDRESSES):
        yield from (
            part for part in re.split(r"[\s,]+", value) if "://" in part and len(part) >= 2 * SHORTEST
        )
    if name.endswith(NAMES) or name in _held:
        whole = value.strip()
        if len(whole) >= SHORTEST:
            yield from _with_base64(whole)
        yield from (part for part in whole.split() if len(part) >= 2 * SHORTEST)


def _with_base64(text: str) -> Iterator[str]:
    """The text, and what it always holds in Base64 (RFC 4648, sections 4 and 5), whatever stands around it there.

    Where it begins decides which bits share a character with others: there are three ways, each in two alphabets.
    """
    yield text
    value = text.encode("utf-8", "surrogateescape")
    for before in range(3):
        bits = 8 * before, 8 * (before + len(value))
        encoded = base64.b64encode(b"\0" * before + value)[-(-bits[0] // 6) : bits[1] // 6]
        yield encoded.decode()
        yield encoded.translate(bytes.maketrans(b"+/", b"-_")).decode()


def _piece(text: str) -> str:
    """The longest part of it that is written the same everywhere."""
    return max(_PLAIN.findall(text), key=len, default="")


def _in_any_form(text: str) -> str:
    """A pattern for the text as it is, in JSON, in JSON in JSON, in a URL, and as Python shows it in an error."""
    return re.escape(text) if _PLAIN.fullmatch(text) else "".join(map(_forms, text))


def _forms(one: str) -> str:
    if _PLAIN.fullmatch(one):
        return re.escape(one)
    quoted = "".join(f"%{byte:02x}" for byte in one.encode("utf-8", "surrogateescape"))
    escapes = {json.dumps(one)[1:-1], repr(one)[1:-1], ascii(one)[1:-1]}
    forms = [rf"\\{{0,32}}{re.escape(one)}" if one in "\"'" else re.escape(one), f"(?i:{quoted})"]
    # However often it was escaped: with so many strokes, but not with any number, or a text of strokes takes for ever.
    forms += [
        rf"\\{{1,32}}{re.escape(form[1:])}"
        for form in escapes
        if form[0] == "\\" and form[1:] not in ("\\", one)
    ]
    forms += [r"\\{1,32}"] if one == "\\" else [r"\+"] if one == " " else []
    return f"(?:{'|'.join(dict.fromkeys(forms))})"
