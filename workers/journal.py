"""The journal of a step in the hands of one attempt: what was done before is not done again.

A place in it is the number of the call, from 0. So an agent must make the same calls in the same order each time it
runs, as far as an earlier attempt came; between them it may do what it likes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

import pydantic_core

from orchestrator.engine import Claimed
from orchestrator.engine.journals import Entry
from orchestrator.masking.masker import discreet
from schemas.errors import JournalMismatch, Permanent
from workers.endings import Superseded
from workers.hands import Line
from workers.storable import holds_nul

T = TypeVar("T")


class JournalKeeper(Protocol):
    """Whoever keeps journals: the engine."""

    def read_journal(self, claimed: Claimed) -> dict[int, Entry]: ...
    def write_journal(self, claimed: Claimed, position: int, entry: Entry) -> bool: ...


class Found(NamedTuple):
    """What stands at a place."""

    value: Any
    """As JSON data."""
    owed: bool
    """Whether this attempt is the first that can tell what it consumed."""


class Journal:
    """One attempt's view; safe from many threads. It is read when it is first asked."""

    def __init__(
        self,
        keeper: JournalKeeper,
        claimed: Claimed,
        hands: Line,
        clean: Callable[[str, str], str] = lambda name, text: text,
    ) -> None:
        """`clean` makes of a name and a JSON text what may be kept."""
        self._keeper = keeper
        self._clean = clean
        self._hands = hands
        self._claimed = claimed
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._entries: dict[int, Entry] | None = None

    def next(self) -> int:
        """The place of the next call."""
        return next(self._numbers)

    def aside(self, act: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Do this while the event loop goes on."""
        return self._hands.call(act, *args)

    def recall(self, position: int, name: str) -> Found | None:
        """What an earlier attempt kept here. Raises `JournalMismatch` if that was something else."""
        name = discreet(name)
        with self._lock:
            if self._entries is None:
                self._entries = self._keeper.read_journal(self._claimed)
        entry = self._entries.get(position)
        if entry is None:
            return None
        if entry.name != name:
            raise JournalMismatch(
                f"its call {position + 1} of the journal is {name!r}, but an earlier attempt had {entry.name!r} there:"
                " an agent must make its calls of ctx.once and ctx.ask_human in the same order each time"
            )
        return Found(json.loads(entry.value), owed=not entry.told)

    def keep(self, position: int, name: str, value: Any) -> Found:
        """Keep what was done here, for good, and give it as it was kept.

        Raises `Superseded` if this attempt is no longer the one that runs.
        """
        name = discreet(name)
        text = self._clean(name, _json(name, value))
        if not self._keeper.write_journal(self._claimed, position, Entry(name, text)):
            raise Superseded
        return Found(json.loads(text), owed=True)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _json(name: str, value: Any) -> str:
    """Raises `Permanent` for what cannot be kept: to do it again would not help."""
    try:
        text = pydantic_core.to_json(value).decode()
        json.loads(text, parse_constant=_no_number)  # what comes back must be what Python can read
    except (pydantic_core.PydanticSerializationError, ValueError) as error:
        raise Permanent(f"what {name!r} gave has no JSON form: {error}") from None
    if holds_nul(text):
        raise Permanent(f"what {name!r} gave holds a NUL character, which Postgres cannot store")
    return text
