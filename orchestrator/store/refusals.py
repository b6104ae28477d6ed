"""What Postgres says, in the words of this house: no error of the driver leaves through a door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from orchestrator.store.connect import Overslept
from schemas.errors import BatonError, Fault, InputError, SchemaOutdated, Unavailable

_AWAY = ("08", "53", "57P", "58", Overslept.sqlstate)
"""SQLSTATEs of connections, missing resources, a server that stops or starts, its disks, and a transaction of a process
that was stopped."""


@contextmanager
def translated(*, passing: bool = False) -> Iterator[None]:
    """Raises `Unavailable`, `SchemaOutdated`, `InputError` or `BatonError` for what psycopg raises.

    With `passing`, what asks for the whole transaction to be repeated goes through as it is: whoever owns the
    transaction may be waiting for it.
    """
    try:
        yield
    except psycopg.Error as error:
        if passing and (error.sqlstate or "").startswith("40"):
            raise
        raise translation(error) from error


def translation(error: psycopg.Error) -> BatonError:
    """The error of ours that says the same."""
    reason = first_line(error)
    match error:
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.InvalidSchemaName():
            return SchemaOutdated()
        case psycopg.DataError() | errors.ProgramLimitExceeded():
            return InputError("submission", [Fault("", f"Postgres cannot store it: {reason}")])
        case psycopg.OperationalError() | psycopg.InterfaceError() if _is_away(error):
            return Unavailable(f"Postgres cannot be reached: {reason}", next_step="baton doctor")
    return BatonError(f"Postgres refuses: {reason}", next_step="baton doctor")


def first_line(error: Exception) -> str:
    """The first line of a message, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _is_away(error: psycopg.Error) -> bool:
    return error.sqlstate is None or error.sqlstate.startswith(_AWAY)
