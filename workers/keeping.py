"""What an attempt does once in the life of its step, and what sets the attempt aside: a question, or a limit."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NoReturn

from schemas.errors import Permanent
from schemas.waits import Asking
from workers.asking import Question
from workers.endings import PutOff, SetAside
from workers.journal import Found, Journal
from workers.state import block

Act = Callable[[], Any] | Question
"""What is done, or asked."""

_around: ContextVar[frozenset[asyncio.Future[None]]] = ContextVar("around", default=frozenset())
"""What is being done of which this is a part."""


@dataclass
class Keeping:
    """One attempt's way through the journal of its step."""

    journal: Journal | None = None
    """Without one everything is done, and nothing kept: an agent that is called as a plain function."""
    is_async: bool = False
    """Whether the agent awaits what it asks of its context."""
    is_shared: bool = False
    """Whether the call that its context is given to is one of several steps."""
    asked: Asking | None = None
    """What this attempt ends with."""
    put_off: PutOff | None = None
    """Or what it has to wait for."""
    _places: Iterator[int] = field(default_factory=itertools.count)
    """Instead of those of a journal, where there is none."""
    _in_flight: set[asyncio.Future[None]] = field(default_factory=set)
    """What its agent does just now and will be kept."""

    @property
    def is_set_aside(self) -> bool:
        """Whether this attempt ends here."""
        return self.asked is not None or self.put_off is not None

    def place(self) -> int:
        """Set the next place of the journal aside."""
        return next(self._places) if self.journal is None else self.journal.next()

    async def kept(
        self,
        place: int,
        name: str,
        act: Callable[[], Awaitable[Any]] | Question,
        read: Callable[[Found], Any],
    ) -> Any:
        """As `journaled`, at a place that was set aside; `read` is told whose account it goes on."""
        if self.journal is None:
            return read(Found(await _without_journal(act), owed=True))
        return await self._awaited(self.journal, place, name, act, read)

    def journaled(self, name: str, act: Act, read: Callable[[Any], Any]) -> Any:
        """What was kept at the next place of the journal, else what `act` gives; awaited by async agents."""
        journal = self.journal
        if journal is None:
            return _without_journal(act)
        place = journal.next()
        if self.is_async:
            return self._awaited(journal, place, name, act, lambda found: read(found.value))
        found = journal.recall(place, name)
        if found is None:
            if isinstance(act, Question):
                self._set_aside(act, place, name)
            with block(place):
                result = act()
            found = journal.keep(place, name, result)
        return read(found.value)

    async def _awaited(
        self, journal: Journal, place: int, name: str, act: Act, read: Callable[[Found], Any]
    ) -> Any:
        found = await journal.aside(journal.recall, place, name)
        if found is None:
            found = await self._done(journal, place, name, act)
        return read(found)

    async def _done(self, journal: Journal, place: int, name: str, act: Act) -> Found:
        """Do it. If that sets the attempt aside, what is done beside it ends first, and is kept."""
        if self.is_set_aside:
            raise SetAside
        flight, around = asyncio.get_running_loop().create_future(), _around.get()
        token = _around.set(around | {flight})
        self._in_flight.add(flight)
        try:
            if isinstance(act, Question):
                self._set_aside(act, place, name)
            with block(place):
                result = act()
                if inspect.isawaitable(result):
                    result = await result
            return await journal.aside(journal.keep, place, name, result)
        except SetAside as error:
            self._landed(around)  # they end with it
            ending = error
        finally:
            _around.reset(token)
            self._landed({flight})
        if self._in_flight:
            await asyncio.wait(set(self._in_flight))
        raise ending

    def _landed(self, flights: Iterable[asyncio.Future[None]]) -> None:
        for flight in flights:
            self._in_flight.discard(flight)
            if not flight.done():
                flight.set_result(None)

    def _set_aside(self, question: Question, place: int, name: str) -> NoReturn:
        """End this attempt. Of several questions at a time the first is asked; the others when it is answered."""
        if self.is_shared:
            raise Permanent("an agent with batch=... cannot ask: its call is that of other steps, too")
        if self.asked is None:
            self.asked = question.asking(place, name)
        raise SetAside


def _without_journal(act: Act) -> Any:
    """In a test that calls the plain function there is nothing to remember, and nobody to ask."""
    if isinstance(act, Question):
        raise Permanent("nobody can be asked here: this context belongs to no step")
    return act()
