"""Masks texts and JSON data, keeps their shape, and tells what it has found: never a value."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from typing import Any

from orchestrator.credentials import holds_own, own
from orchestrator.masking.kinds import LONG, Kind, any_of, small
from orchestrator.masking.tokens import FIELD, SECRETS, is_named_secret

_LONG_NUMBER = re.compile(r"(?<![\d.])\d{8,}(?![\d.])")
"""A whole number that could be a card's, or a credential: shorter ones are looked for in texts only."""

NAMED_SECRET = "secret:named"  # noqa: S105  the name of a kind
"""What a field holds that is called `password`, whatever it looks like."""

SEALED = frozenset({"signature", "provider_details"})
"""What a provider has signed goes back to it as it came; only our own credentials are masked there."""


class Findings:
    """What was masked in one text or value: how often, by kind and field."""

    def __init__(self) -> None:
        self._times: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, kind: str, field: str, times: int) -> None:
        self._times[kind][field] += times

    def __bool__(self) -> bool:
        return bool(self._times)

    def __iter__(self) -> Iterator[tuple[str, str, int]]:
        """Kind, field and how often."""
        return (
            (kind, field, times) for kind, fields in self._times.items() for field, times in fields.items()
        )

    def of(self, kinds: Container[str]) -> Findings:
        """Only those of some kinds."""
        some = Findings()
        for kind, field, times in self:
            if kind in kinds:
                some.add(kind, field, times)
        return some

    def __str__(self) -> str:
        """Such as `email in customers.0.address and 2 more, iban`."""
        told = []
        for kind, fields in self._times.items():
            named = [field for field in fields if field]
            more = f" and {len(named) - 3} more" if len(named) > 3 else ""
            told.append(f"{kind} in {', '.join(named[:3])}{more}" if named else kind)
        return "; ".join(told)


class Masker:
    """Masks some kinds, and the process's own credentials always."""

    def __init__(self, kinds: tuple[Kind, ...], *, names: bool) -> None:
        """`names` says whether fields that are called `password` are believed to hold one."""
        self._names = names
        self._tokens = tuple(kind for kind in kinds if kind.in_long_word)
        self._others = tuple(kind for kind in kinds if not kind.in_long_word)
        self._mark = any_of(mark for kind in self._tokens for mark in kind.marks) if self._tokens else None

    def text(self, text: str, found: Findings, field: str = "") -> str:
        """The text as it may be stored."""
        cleaned = own(text)
        if cleaned != text:
            found.add("credential", field, 1)
        low = small(cleaned) if self._others else cleaned
        for kind in self._likely(cleaned, low):
            cleaned, times = kind.masked(cleaned, low)
            if times:
                low = small(cleaned)
                found.add(kind.name, field, times)
        return cleaned

    def json(self, text: str, found: Findings) -> str:
        """The JSON text as it may be stored, which is mostly the same one."""
        # Without a string in it, or a long number, there is nothing to mask.
        if ('"' not in text and not _LONG_NUMBER.search(text)) or not self._may_be_in(text):
            return text
        value = self.data(json.loads(text), found)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if found else text

    def _may_be_in(self, text: str) -> bool:
        if holds_own(text):
            return True
        low = small(text) if self._others else text
        # Where something is said to be a secret, it may be by the name of a field.
        return any(kind.needs is FIELD or kind.may_be_in(text, low) for kind in self._likely(text, low))

    def _likely(self, text: str, low: str) -> Iterator[Kind]:
        """The kinds that could be in a text: few of the many."""
        if self._mark is not None:
            words = " ".join([word for word in text.split() if len(word) >= LONG])
            marks = set(self._mark.findall(words))
            if marks:
                yield from (kind for kind in self._tokens if not marks.isdisjoint(kind.marks))
        there: dict[Kind | None, bool] = {None: True}
        for kind in self._others:
            first = kind.needs
            if first is not None and first not in there:
                there[first] = first.may_be_in(text, low)
            if there[first]:
                yield kind

    def data(self, value: Any, found: Findings, field: str = "") -> Any:
        """The JSON data as it may be stored: its strings, the names of its fields, and its whole numbers."""
        match value:
            case str():
                return self._string(value, found, field)
            case list() | tuple():
                return [self.data(one, found, _below(field, str(index))) for index, one in enumerate(value)]
            case dict():
                return self._object(value, found, field)
            case int() if abs(value) >= 10**7:  # a bool is less
                shown = self.text(str(abs(value)), found, field)
                return value if shown.isdigit() else shown
        return value

    def _string(self, text: str, found: Findings, field: str) -> str:
        mine = Findings()
        cleaned = self.text(text, mine, field)
        if not mine:
            return text
        nested = _nested(text)
        if nested is not None:  # JSON in a string, such as the arguments of a model's call, stays JSON
            mine = Findings()
            cleaned = json.dumps(self.data(nested, mine, field), ensure_ascii=False)
        for kind, one, times in mine:
            found.add(kind, one, times)
        return cleaned

    def _object(self, value: dict[str, Any], found: Findings, field: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        again: Counter[str] = Counter()
        for name, one in value.items():
            shown = _told_apart(self.text(name, found, _below(field, "(name)")), made, again)
            below = _below(field, shown)
            if name in SEALED:
                made[shown] = _own(one, found, below)
            elif self._names and isinstance(one, str) and is_named_secret(name, one):
                found.add(NAMED_SECRET, below, 1)
                made[shown] = f"<{NAMED_SECRET}>"
            else:
                made[shown] = self.data(one, found, below)
        return made


def _own(value: Any, found: Findings, field: str) -> Any:
    return OWN.data(value, found, field)


def _told_apart(name: str, made: Container[str], again: Counter[str]) -> str:
    """Two names under one mask stay two, and a thousand a thousand: `<email>`, `<email>'`, `<email>'2`."""
    shown = name
    while shown in made:
        again[name] += 1
        shown = f"{name}'{again[name]}" if again[name] > 1 else f"{name}'"
    return shown


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _nested(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # brackets in brackets
        return None


OWN = Masker((), names=False)
"""Masks nothing but the process's own credentials."""

_ALL = Masker(SECRETS, names=True)


def discreet(text: str) -> str:
    """The text without credentials: the process's own, and whatever looks like one."""
    return _ALL.text(text, Findings())


def discreet_json(text: str) -> str:
    """The JSON text without them, which is mostly the same one."""
    return _ALL.json(text, Findings())


def discreet_data(value: Any) -> tuple[Any, Findings]:
    """JSON data without them, and what was there."""
    found = Findings()
    return _ALL.data(value, found), found


def as_key(text: str) -> str:
    """What may stand in a row or an event for what things are grouped by: equal for equal texts, and no credential."""
    if discreet(text) == text:
        return text
    return f"<credential> {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"
