"""How an attempt ends other than by a result or an error."""

from __future__ import annotations


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
