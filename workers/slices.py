"""The part of the shared state that an agent has declared: it reads and writes no other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from schemas.errors import Fault, Undeclared
from schemas.state import Scope

SHARED, SESSION = "shared:", "session:"
"""Before a name in `ctx.shared(...)`, and before the key of a `ctx.session(...)`."""

_WHERE = {Scope.RUN: "", Scope.KEY: SHARED, Scope.SESSION: SESSION}
_TOLD = {Scope.RUN: "ctx.state", Scope.KEY: "ctx.shared", Scope.SESSION: "ctx.session"}


@dataclass(frozen=True)
class Slice:
    """What one agent has declared; None is all of it. A step's own notes, `ctx.scratch`, are always its own."""

    agent: str
    declared: tuple[str, ...] | None = None

    def has(self, scope: Scope, name: str) -> bool:
        """Whether it is declared: a name in `ctx.state` or `ctx.shared(...)`, or the key of a conversation."""
        if self.declared is None or scope is Scope.STEP:
            return True
        return any(matches(one, _WHERE[scope] + name) for one in self.declared)

    def check(self, scope: Scope, name: str) -> None:
        """Raises `Undeclared`."""
        if not self.has(scope, name):
            raise Undeclared(
                f"{self.agent} wants {name!r} of {_TOLD[scope]}, and declares state={list(self.declared or ())}:"
                f" name {_WHERE[scope] + name!r} there"
            )


def state_faults(declared: Sequence[str] | None) -> Iterator[Fault]:
    """What is wrong with a declaration."""
    if declared is None:
        return
    if not isinstance(declared, list | tuple) or not all(isinstance(one, str) and one for one in declared):
        yield Fault("state", f"it is a list of names, such as ['findings', 'draft.*'], not {declared!r}")


def matches(declared: str, name: str) -> bool:
    """Whether this name is declared; a star stands for anything."""
    return declared == name or ("*" in declared and _pattern(declared).fullmatch(name) is not None)


@cache
def _pattern(declared: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, declared.split("*"))), re.DOTALL)
