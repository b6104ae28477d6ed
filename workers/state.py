"""What agents share, as they see it: values, notes of their own, conversations.

The same calls serve both kinds of agents. Where an event loop runs they are awaited, `await ctx.state.merge(...)`, and
the loop goes on meanwhile; elsewhere they answer at once, `ctx.state.merge(...)`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from orchestrator.shared_state import Author, Cell, SharedState
from schemas.errors import AgentError, Conflict
from schemas.state import Merge, Scope
from workers.hands import Line
from workers.slices import Slice

ROOM = 100_000
"""Numbers that the writes of one block have, and those outside of any."""

_block: ContextVar[int] = ContextVar("block", default=0)


@contextmanager
def block(position: int) -> Iterator[None]:
    """What is written meanwhile stands in a block of `ctx.once`, which a later attempt may leave out.

    So it is numbered by itself, and what comes after it has the same number in every attempt.
    """
    token = _block.set((position + 1) * ROOM)
    try:
        yield
    finally:
        _block.reset(token)


def block_base() -> int:
    """Where the numbers of the block begin in which this is called; 0 outside of any."""
    return _block.get()


class Sharing:
    """The shared state in the name of one attempt, which numbers its writes to each place."""

    def __init__(
        self,
        store: SharedState,
        author: Author,
        hands: Line,
        clean: Callable[[Any], Any] = lambda value: value,
        slice: Slice | None = None,
    ) -> None:
        """`clean` makes what may be stored."""
        self.clean = clean
        self.slice = slice or Slice("this agent")
        """What may be read and written."""
        self.store = store
        self.author = author
        self._hands = hands
        self._calls: Counter[tuple[Cell, int]] = Counter()

    def write(self, cell: Cell, verb: Callable[[int], Any]) -> Any:
        """Do the next write to a place, numbered in the order in which the agent asked for it."""
        series = (cell, _block.get())
        self._calls[series] += 1
        return self._answered(partial(self._numbered, series, self._calls[series], verb))

    def read(self, verb: Callable[[], Any]) -> Any:
        """Look something up."""
        return self._answered(verb)

    def _answered(self, call: Callable[[], Any]) -> Any:
        """The answer, or where an event loop must not be held up, what to await for it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return call()
        return self._hands.call(call)

    def _numbered(self, series: tuple[Cell, int], call: int, verb: Callable[[int], Any]) -> Any:
        try:
            return verb(series[1] + call)
        except Conflict:
            # Nothing was written: whoever tries again makes the same call.
            if self._calls[series] == call:
                self._calls[series] -= 1
            raise


class State:
    """Values that several agents read and write, by name. What an attempt has written stays when it fails.

    An agent that declares `state=[...]` has those alone: its calls raise `Undeclared` for any other name.
    """

    def __init__(self, sharing: Sharing, scope: Scope, owner: str) -> None:
        self._sharing = sharing
        self._scope = scope
        self._owner = owner

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or `default` where nobody has written one."""
        cell = self._cell(name)
        return self._sharing.read(lambda: _or_default(self._read(cell), default))

    def read(self, name: str) -> Any:
        """The value of a name with its version, which `set` can insist on: a `schemas.state.Versioned`."""
        cell = self._cell(name)
        return self._sharing.read(lambda: self._read(cell))

    def all(self) -> Any:
        """Every value, by name, as far as the agent has declared it."""
        store, author, slice = self._sharing.store, self._sharing.author, self._sharing.slice
        return self._sharing.read(
            lambda: {
                name: one.value
                for name, one in store.all(author.tenant, self._scope, self._owner).items()
                if slice.has(self._scope, name)
            }
        )

    def set(self, name: str, value: Any, *, version: int | None = None) -> Any:
        """Write a value; its new version. Raises `Conflict` if it no longer has the version that is named."""
        store, author, cell = self._sharing.store, self._sharing.author, self._cell(name)
        return self._sharing.write(
            cell, lambda call: store.set(author, cell, call, self._sharing.clean(value), version)
        )

    def merge(self, name: str, value: Any, how: Merge | str) -> Any:
        """Let a value join what is there (see `schemas.state.Merge`), whoever else does so now; what is there then.

        A step that is tried again merges nothing twice: what an earlier attempt has merged stays as it is.
        """
        store, author, cell = self._sharing.store, self._sharing.author, self._cell(name)
        kind = Merge(how)
        return self._sharing.write(
            cell, lambda call: store.merge(author, cell, call, self._sharing.clean(value), kind)
        )

    def _read(self, cell: Cell) -> Any:
        return self._sharing.store.get(self._sharing.author.tenant, cell)

    def _cell(self, name: str) -> Cell:
        self._sharing.slice.check(self._scope, name)
        return Cell(self._scope, self._owner, name)


class Session:
    """A conversation that goes on from run to run: messages are added, numbered, and never changed."""

    def __init__(self, sharing: Sharing, key: str) -> None:
        self._sharing = sharing
        self._cell = Cell(Scope.SESSION, key)

    def append(self, message: Any) -> Any:
        """Add a message, once however often the step is tried; its number."""
        self._sharing.slice.check(Scope.SESSION, self._cell.owner)
        store, author = self._sharing.store, self._sharing.author
        return self._sharing.write(
            self._cell,
            lambda call: store.append(author, self._cell, call, self._sharing.clean(message)),
        )

    def history(self, last: int = 50) -> Any:
        """The latest messages, the oldest of them first: a list of `schemas.state.SessionMessage`."""
        self._sharing.slice.check(Scope.SESSION, self._cell.owner)
        store, author = self._sharing.store, self._sharing.author
        return self._sharing.read(lambda: store.history(author.tenant, self._cell.owner, last))


def sharing_of(sharing: Sharing | None) -> Sharing:
    """Raises `AgentError` where there is none: an agent that is called as a plain function."""
    if sharing is None:
        raise AgentError("this context has no state to share: it was not made by a worker")
    return sharing


def _or_default(found: Any, default: Any) -> Any:
    return found.value if found.version else default
