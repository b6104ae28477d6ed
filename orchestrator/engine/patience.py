"""Waiting for a server that is away, instead of losing the work in hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

import psycopg

from orchestrator.outages import POSTGRES
from orchestrator.store.connect import NoConnection, Overslept, Pool
from schemas.errors import Permanent

P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 600.0
"""Seconds after which a verb gives up; its worker's lease has run out long before."""


UNSTORABLE = (
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    ValueError,
    TypeError,
    RecursionError,
    Permanent,
)
"""What one run's values or definition can cause in a transaction that it shares: each of its runs is then moved on by
itself, and the one that caused it fails with the reason."""

_PASSING = ("08", "40", "57P", "53300", Overslept.sqlstate)
"""SQLSTATEs of what waiting mends: connections, deadlocks, a server that stops or starts, no free connection, and a
transaction in the middle of which this process was stopped for long."""


def patiently(verb: Callable[P, R]) -> Callable[P, R]:
    """Repeat a verb while Postgres is away, restarts, or breaks a deadlock or a transaction that slept.

    Only for verbs that are fenced.

    A verb that had committed before its answer was lost finds, when repeated, nothing left to do; what its
    first try made ready is then sent by recovery.
    """

    @wraps(verb)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
        until, pause = time.monotonic() + LONGEST, 0.05
        while True:
            try:
                result = verb(*args, **kwargs)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if not passes(error) or time.monotonic() > until:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 0.5)
            else:
                POSTGRES.over()
                return result

    return repeated


READS = 60.0
"""Seconds for which somebody who only reads waits for Postgres."""


def steadily(read: Callable[[], R], pool: Pool) -> R:
    """Repeat a read while a Postgres that was reached before is away, for `READS` seconds at most."""
    until: float | None = None
    while True:
        try:
            return read()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            until = until or time.monotonic() + READS
            if not passes(error) or not pool.was_reached or time.monotonic() > until:
                raise
            time.sleep(0.05)


def once_more(verb: Callable[P, R]) -> Callable[P, R]:
    """Repeat a verb once after a lost connection or a broken deadlock; for those who would rather hear than wait.

    Only for verbs that find, when repeated, what their first try had committed.
    """

    @wraps(verb)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not passes(error) or isinstance(error, NoConnection):
                raise
        return verb(*args, **kwargs)

    return repeated


def passes(error: psycopg.Error) -> bool:
    """Whether waiting mends it; then it is said that Postgres is away, if it is and nobody has said so."""
    state = error.sqlstate
    if state is not None and not state.startswith(_PASSING):
        return False
    answers = state is not None and state.startswith(("40", Overslept.sqlstate))
    if not answers and not isinstance(error, NoConnection):  # of which its pool has told
        POSTGRES.noticed(error)
    return True


_TRIES = 10


def unentangled(verb: Callable[P, R]) -> Callable[P, R]:
    """Repeat a verb that Postgres broke off to end a deadlock: nothing of it has happened.

    A verb that moves a whole run rewrites many steps, and workers claim some of them in another order.
    """

    @wraps(verb)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(_TRIES):
            with suppress(psycopg.errors.DeadlockDetected):
                return verb(*args, **kwargs)
        return verb(*args, **kwargs)

    return repeated
