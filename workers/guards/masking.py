"""Masks texts and JSON data, keeps their shape, and tells what it has found: never a value."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator
from functools import cache
from typing import Any, TypeVar

import pydantic_core
from pydantic import ValidationError

from orchestrator.credentials import holds_own, own
from orchestrator.engine import Note
from schemas.errors import OutputRefused
from schemas.events import EventKind
from workers.guards.kinds import LONG, Kind, any_of
from workers.guards.personal import PERSONAL
from workers.guards.policy import Guard
from workers.guards.tokens import FIELD, SECRETS, is_named_secret

T = TypeVar("T")

MOST_FIELDS = 20
"""Fields that an event names."""

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

    def note(self, where: str) -> Note:
        """The event that tells of it."""
        fields = list(dict.fromkeys(field for _, field, _ in self if field))
        kinds = {kind: sum(fields.values()) for kind, fields in self._times.items()}
        message = f"masked in the {where}: {self}"
        told = {"message": message, "where": where, "kinds": kinds, "fields": fields[:MOST_FIELDS]}
        return Note(EventKind.STEP_MASKED, told)


class Masker:
    """Masks some kinds, and the worker's own credentials always."""

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
        low = cleaned.lower() if self._others else cleaned
        for kind in self._likely(cleaned, low):
            cleaned, times = kind.masked(cleaned, low)
            if times:
                low = cleaned.lower()
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
        low = text.lower() if self._others else text
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
            case list():
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
        for name, one in value.items():
            shown = self.text(name, found, _below(field, "(name)"))
            while shown in made:
                shown += "'"  # two names under one mask stay two
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


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _nested(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


OWN = Masker((), names=False)
"""Masks nothing but the worker's own credentials."""


@cache
def masker(secrets: bool, personal: tuple[str, ...]) -> Masker:
    """The masker of secrets, or of some kinds of personal data, or of both."""
    kinds = SECRETS if secrets else ()
    return Masker(kinds + tuple(kind for kind in PERSONAL if kind.name in personal), names=secrets)


def masker_of(guard: Guard) -> Masker:
    """The masker of all that a guard does not allow."""
    return masker(guard.secrets != "allow", guard.kinds if guard.personal != "allow" else ())


class Mask:
    """The guard of one attempt: masks what is about to be stored, and notes that it did. Safe from many threads."""

    def __init__(self, guard: Guard, *, inside: bool) -> None:
        """`inside` says whether the guard also holds for the journal and for shared state, where agents read again."""
        self.guard = guard
        self.notes: list[Note] = []
        self._shown = masker_of(guard)
        self._kept = self._shown if inside else OWN

    def output(self, agent: str, text: str, fits: Callable[[str], Any]) -> str:
        """The agent's output, JSON text, as it is stored. `fits` raises `ValidationError` for one that does not.

        Raises `OutputRefused`, which names kinds and fields.
        """
        found = Findings()
        masked = self._shown.json(text, found)
        if not found:
            return text
        if refused := found.of(self._refused()):
            raise OutputRefused(f"{agent} gave what its guard refuses: {refused}")
        try:
            fits(masked)
        except ValidationError:
            reason = f"{found}: what would stand in its place does not fit the output's schema"
            raise OutputRefused(f"{agent} gave what cannot be masked: {reason}") from None
        self.notes.append(found.note("output"))
        return masked

    def _refused(self) -> Container[str]:
        secrets = {"credential", *(kind.name for kind in SECRETS), NAMED_SECRET}
        return (secrets if self.guard.secrets == "refuse" else set()) | (
            set(self.guard.kinds) if self.guard.personal == "refuse" else set()
        )

    def shown(self, where: str, value: Any) -> Any:
        """JSON data that somebody will see."""
        return self._noted(where, value, self._shown.data)

    def text(self, where: str, text: str) -> str:
        """A text that somebody will see."""
        return self._noted(where, text, self._shown.text)

    def spoken(self, text: str) -> str:
        """A piece of what is said just now. It is not noted: all of it is, where it is given."""
        return self._shown.text(text, Findings())

    def kept(self, where: str, text: str) -> str:
        """A JSON text that the agent itself will read again."""
        return self._noted(where, text, self._kept.json)

    def shared(self, value: Any) -> Any:
        """What agents will read again, of whatever has a JSON form."""
        try:
            text = pydantic_core.to_json(value).decode()
        except (pydantic_core.PydanticSerializationError, ValueError):
            return value  # the store says what is wrong with it
        masked = self.kept("shared state", text)
        return value if masked is text else json.loads(masked)

    def _noted(self, where: str, value: T, mask: Callable[[T, Findings], T]) -> T:
        found = Findings()
        masked = mask(value, found)
        if found:
            self.notes.append(found.note(where))
        return masked
