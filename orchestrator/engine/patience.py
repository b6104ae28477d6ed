"""Waiting for a server that is away, instead of losing the work in hand."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

import psycopg

from orchestrator.store.connect import NoConnection

log = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 600.0
"""Seconds after which a verb gives up; its worker's lease has run out long before."""


_PASSING = ("08", "40", "57P", "53300")
"""SQLSTATEs of what waiting mends: connections, deadlocks, a server that stops or starts, no free connection."""


def patiently(verb: Callable[P, R]) -> Callable[P, R]:
    """Repeat a verb while Postgres is away, restarts, or breaks a deadlock. Only for verbs that are fenced.

    A verb that had committed before its answer was lost finds, when repeated, nothing left to do; what its
    first try made ready is then sent by recovery.
    """

    @wraps(verb)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
        until, pause = time.monotonic() + LONGEST, 0.05
        told = False
        while True:
            try:
                result = verb(*args, **kwargs)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                if not _passes(error) or time.monotonic() > until:
                    raise
                if not told:
                    log.warning("Postgres does not answer, trying again: %s", error)
                told = True
                time.sleep(pause)
                pause = min(pause * 2, 0.5)
            else:
                if told:
                    log.warning("Postgres answers again")
                return result

    return repeated


def once_more(verb: Callable[P, R]) -> Callable[P, R]:
    """Repeat a verb once after a lost connection or a broken deadlock; for those who would rather hear than wait.

    Only for verbs that find, when repeated, what their first try had committed.
    """

    @wraps(verb)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if isinstance(error, NoConnection) or not _passes(error):
                raise
            log.warning("Postgres does not answer, trying once more: %s", error)
        return verb(*args, **kwargs)

    return repeated


def _passes(error: Exception) -> bool:
    state = getattr(error, "sqlstate", None)
    return state is None or state.startswith(_PASSING)


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
