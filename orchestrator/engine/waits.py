"""How waits end: by people, by other systems, by their time; each once, whoever comes first.

A wait begins with `Moves.wait`, for a composite step, or with an agent's outcome `Waiting`. From then on its step is
`waiting`: no worker holds it and no message is under way for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

from orchestrator.engine.advance import Advance
from orchestrator.engine.ground import Ground
from orchestrator.engine.patience import UNSTORABLE, unentangled
from orchestrator.engine.plans import Plans
from orchestrator.engine.run_locks import sharing
from orchestrator.engine.values import Ready, RunRef, error_text, reason_of
from orchestrator.masking.masker import discreet, discreet_json
from orchestrator.store import wait_queries as sql
from orchestrator.store.connect import Conn
from schemas.waits import Expiry

log = logging.getLogger(__name__)

EXPIRY = "expiry"
"""Who decides when nobody did."""


class WaitEnd(NamedTuple):
    """How one wait is to end."""

    wait: int
    decision: str
    """What was decided, in a word."""
    by: str
    state: Literal["done", "failed", "ready", "open"]
    """What becomes of the step: done, with `output` or else what it was given; failed, with `error`; ready, to go on
    with `output` in its journal; open, to be entered again."""
    output: str | None = None
    """JSON text."""
    error: str | None = None
    """JSON text of an `ErrorInfo`."""
    reason: str = ""
    told: Mapping[str, Any] | None = None
    """What the event `step.decided` says; None for no such event."""


class EndedWaits(NamedTuple):
    """Which waits ended as they were to, and what may be sent; the others had ended before."""

    waits: frozenset[int]
    ready: list[Ready]


class Waits(Ground):
    """Ends waits."""

    @unentangled
    def end_waits(self, ends: Sequence[WaitEnd]) -> EndedWaits:
        """End these waits, of any runs, in one transaction with all that follows."""
        with self.pool.connection() as conn:
            runs = conn.execute(sql.SELECT_RUNS_OF_WAITS, {"ids": [one.wait for one in ends]}).fetchall()
            with sharing(conn, [run for (run,) in runs]):
                advance = Advance(conn, self.plans)
                ended = end_waits(self.plans, advance, ends)
                advance.settle()
            return EndedWaits(ended, advance.ready + self.settle(conn, advance.unsettled))

    @unentangled
    def expire_waits(self, *, most: int = 200) -> list[Ready]:
        """Ask further people, or end waits as they said they would, where the time for it has come."""
        with self.pool.connection() as conn:
            due = conn.execute(sql.SELECT_DUE_WAITS, {"most": most}).fetchall()
            return self._expire_waits(conn, due) if due else []

    def _expire_waits(self, conn: Conn, due: Sequence[tuple[int, UUID]]) -> list[Ready]:
        """What is wrong with one of them, say with what comes after it, is no concern of the others."""
        try:
            with sharing(conn, {run for _, run in due}):
                rows = conn.execute(sql.TAKE_DUE_WAITS, {"ids": [wait for wait, _ in due]}).fetchall()
                advance = Advance(conn, self.plans)
                end_waits(self.plans, advance, [_expired(wait, expiry) for wait, expiry in rows])
                advance.settle()
        except UNSTORABLE as error:
            if len(due) > 1:
                return [one for pair in due for one in self._expire_waits(conn, [pair])]
            return self.give_up_wait(conn, *due[0], error)
        return advance.ready + self.settle(conn, advance.unsettled)

    def give_up_wait(self, conn: Conn, wait: int, run: UUID, cause: Exception) -> list[Ready]:
        """Fail the step of a wait that cannot end as it should; if even that cannot be stored, somebody has to look."""
        reason = f"what follows it cannot be stored: {reason_of(cause)}"
        told = {"verb": "was", "choice": "given up", "by": "engine", "reason": reason}
        error = error_text("Unstorable", reason)
        try:
            with sharing(conn, [run]):
                advance = Advance(conn, self.plans)
                end = WaitEnd(wait, "given up", "engine", "failed", error=error, reason=reason, told=told)
                end_waits(self.plans, advance, [end])
                advance.settle()
        except UNSTORABLE:
            log.exception("wait %s of run %s can neither end nor fail", wait, run)
            return []
        return advance.ready + self.settle(conn, advance.unsettled)


def end_waits(plans: Plans, advance: Advance, ends: Iterable[WaitEnd]) -> frozenset[int]:
    """End waits within a transaction that holds their runs, for `advance` to settle; those that were open."""
    given = list({one.wait: one for one in ends}.values())
    if not given:
        return frozenset()
    rows = advance.conn.execute(sql.SETTLE_WAITS, _columns(given)).fetchall()
    for _, run_id, path, state, ref, given_ref, error, agent, definition, priority, paused in rows:
        run = RunRef(run_id, plans.load(definition, advance.conn), priority, paused)
        match state:
            case "done":
                advance.finished(run, path, ref)
            case "failed":
                advance.finished(run, path, None, error)
            case "ready":
                advance.send(run, path, agent)
            case "open":
                advance.enter(run, path, given_ref)
    return frozenset(row[0] for row in rows)


def _expired(wait: int, text: str) -> WaitEnd:
    expiry = Expiry.model_validate_json(text)
    failed = expiry.state == "failed"
    told = {"verb": "was", "choice": expiry.decision, "by": EXPIRY, "reason": expiry.reason}
    return WaitEnd(
        wait,
        expiry.decision,
        EXPIRY,
        expiry.state,
        output=json.dumps(expiry.output) if expiry.gives_output else None,
        error=error_text("Expired", expiry.reason) if failed else None,
        reason=expiry.reason,
        told=None if expiry.state == "open" else told,
    )


def _columns(ends: Sequence[WaitEnd]) -> dict[str, list[Any]]:
    return {
        "ids": [one.wait for one in ends],
        "decisions": [one.decision for one in ends],
        "bys": [one.by for one in ends],
        "reasons": [discreet(one.reason) for one in ends],
        "states": [one.state for one in ends],
        "outputs": [one.output for one in ends],
        "errors": [one.error and discreet_json(one.error) for one in ends],
        "told": [
            discreet_json(json.dumps(one.told, default=str)) if one.told is not None else None for one in ends
        ],
    }
