"""The guard of one attempt: what of it is masked, and what the run is told of that."""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from functools import cache
from typing import Any, TypeVar

import pydantic_core
from pydantic import ValidationError

from orchestrator.engine import Note
from orchestrator.masking.masker import NAMED_SECRET, Findings, Masker
from orchestrator.masking.tokens import SECRETS
from schemas.errors import OutputRefused
from schemas.events import EventKind
from schemas.settings import settings
from workers.guards.personal import PERSONAL
from workers.guards.policy import Guard

T = TypeVar("T")

MOST_FIELDS = 20
"""Fields that an event names."""


def note(found: Findings, where: str) -> Note:
    """The event that tells of what was masked."""
    fields = list(dict.fromkeys(field for _, field, _ in found if field))
    kinds: dict[str, int] = {}
    for kind, _, times in found:
        kinds[kind] = kinds.get(kind, 0) + times
    message = f"masked in the {where}: {found}"
    told = {"message": message, "where": where, "kinds": kinds, "fields": fields[:MOST_FIELDS]}
    return Note(EventKind.STEP_MASKED, told)


@cache
def masker(secrets: bool, personal: tuple[str, ...]) -> Masker:
    """The masker of secrets, or of some kinds of personal data, or of both."""
    kinds = SECRETS if secrets else ()
    return Masker(kinds + tuple(kind for kind in PERSONAL if kind.name in personal), names=secrets)


class Mask:
    """The guard of one attempt: masks what is about to be stored, and notes that it did. Safe from many threads."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._personal = guard.personal or settings().personal
        self.notes: list[Note] = []
        personal = guard.kinds if self._personal != "allow" else ()
        self._given = masker(guard.secrets != "allow", personal)
        """What programs read again: outputs, the journal, what agents share."""
        self._shown = masker(True, personal)
        """What people read: events, errors, questions, the log of tools."""

    def output(self, agent: str, text: str, fits: Callable[[str], Any]) -> str:
        """The agent's output, JSON text, as it is stored. `fits` raises `ValidationError` for one that does not.

        Raises `OutputRefused`, which names kinds and fields.
        """
        found = Findings()
        masked = self._given.json(text, found)
        if not found:
            return text
        if refused := found.of(self._refused()):
            raise OutputRefused(f"{agent} gave what its guard refuses: {refused}")
        try:
            fits(masked)
        except ValidationError:
            reason = f"{found}: what would stand in its place does not fit the output's schema"
            raise OutputRefused(f"{agent} gave what cannot be masked: {reason}") from None
        self.notes.append(note(found, "output"))
        return masked

    def _refused(self) -> Container[str]:
        secrets = {"credential", *(kind.name for kind in SECRETS), NAMED_SECRET}
        return (secrets if self.guard.secrets == "refuse" else set()) | (
            set(self.guard.kinds) if self._personal == "refuse" else set()
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
        return self._noted(where, text, self._given.json)

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
            self.notes.append(note(found, where))
        return masked
