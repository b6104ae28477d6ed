"""Engines that are broken on purpose: a worker that loads this module breaks itself as `CHAOS_BREAK` says.

Only tests name it in `BATON_APP`. Each variant takes one promise out of the code, so that a checker can show that it
would have noticed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from orchestrator.engine import advance, engine
from orchestrator.recovery import Recovery
from orchestrator.store import advance_queries, attempt_queries
from workers.attempts import Attempts
from workers.context import Context

NAME = "CHAOS_BREAK"
APP = f"tests.chaos.shapes,{__name__}"


def _changed(statement: str, changes: dict[str, str]) -> Any:
    for part, other in changes.items():
        assert part in statement, f"{part!r} is no longer in the statement"
        statement = statement.replace(part, other)
    return statement


def no_fence() -> None:
    """Every outcome is taken, whoever brings it and whatever has happened since; nobody is stopped."""
    Attempts.stop = lambda self, attempt: None  # type: ignore[method-assign]
    attempt_queries.ACCEPT = _changed(
        attempt_queries.ACCEPT,
        {
            "AND s.attempt = g.attempt AND s.state || '' = 'running'": "",
            "AND s.worker_id = %(worker)s": "",
            "usage::jsonb, started_at FROM accepted": "usage::jsonb, started_at FROM accepted ON CONFLICT DO NOTHING",
        },
    )


def no_claim() -> None:
    """A step is run whenever a message says so, as if it never had."""
    attempt_queries.CLAIM = _changed(
        attempt_queries.CLAIM,
        {
            "AND s.state || '' = 'ready'": "",
            "SET state = 'running', attempt": "SET state = 'running', output = NULL, finished_at = NULL, attempt",
        },
    )


def greedy_claim() -> None:
    """A step that somebody runs is taken from him."""
    attempt_queries.CLAIM = _changed(
        attempt_queries.CLAIM, {"AND s.state || '' = 'ready'": "AND s.state || '' IN ('ready', 'running')"}
    )


def no_recovery() -> None:
    """Nobody looks for what is left."""
    Recovery.sweep = lambda self: 0  # type: ignore[method-assign]


def hasty_join() -> None:
    """A join goes on without asking whether a branch is left."""
    wait = "IS NOT NULL AS is_left"
    advance_queries.SELECT_LEFT = _changed(
        advance_queries.SELECT_LEFT, {wait: "IS NOT NULL AND false AS is_left"}
    )


def hangs_when_told() -> None:
    """The consumer's thread gets stuck at SIGUSR2, until the next signal comes; the others go on."""
    signal.signal(signal.SIGUSR2, lambda *_: signal.pause())


def unstable_key() -> None:
    """The outside world is given another key in each attempt."""
    Context.idempotency_key = property(lambda self: f"{self.run_id}:{self.path}:{self.attempt}")  # type: ignore[assignment]


VARIANTS: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        no_fence,
        no_claim,
        greedy_claim,
        no_recovery,
        hasty_join,
        unstable_key,
        hangs_when_told,
    )
}

# These look the statements up in their modules when they run them.
assert engine.sql is attempt_queries
assert advance.sql is advance_queries

if NAME in os.environ:
    VARIANTS[os.environ[NAME]]()
