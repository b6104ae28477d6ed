"""How an attempt ends other than by a result or an error."""

from __future__ import annotations


class Superseded(Exception):
    """The attempt was stopped because its outcome would be refused."""


class SetAside(BaseException):
    """The agent has asked, and its attempt ends here; when it is answered, another one goes on.

    No `Exception`, so that an agent that catches all errors does not catch it.
    """
