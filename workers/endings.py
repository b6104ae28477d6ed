"""How attempts end."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.engine import Note
from schemas.outcomes import Done, Failed, Limited, Waiting
from schemas.usage import Usage


class Ended(NamedTuple):
    """The outcome of an attempt, with its output as JSON text and the progress it noted."""

    outcome: Done | Failed | Waiting | Limited
    output: str | None
    notes: tuple[Note, ...]
    counted: Usage = Usage()
    """That part of its usage which budgets have counted already."""
    holds: bool = False
    """Whether something is set aside for it as a whole."""


class Superseded(Exception):
    """The attempt was stopped because its outcome would be refused."""


class SetAside(BaseException):
    """The agent waits, and its attempt ends here; when it has what it waits for, another one goes on.

    No `Exception`, so that an agent that catches all errors does not catch it.
    """


class PutOff(SetAside):
    """A call has to wait for a limit of the cluster, for longer than a worker should."""

    def __init__(self, limit: str, due_in: float) -> None:
        """`due_in` is in seconds: when it is its turn."""
        super().__init__(f"{limit}, in {due_in:g} s")
        self.limit = limit
        self.due_in = due_in
