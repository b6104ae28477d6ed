"""Circuit breakers around calls of tools and models, and around attempts of agents."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import psycopg

from orchestrator.breakers import CircuitChange, CircuitPass, Circuits, End, Evidence
from orchestrator.engine import Note
from schemas.breakers import Breaker
from schemas.errors import CallTimeout, CircuitOpen, Permanent, ToolError
from schemas.events import EventKind
from schemas.outcomes import Done, Failed, Limited, Waiting
from workers.calls import Call
from workers.gates.together import Together
from workers.hands import Line

log = logging.getLogger(__name__)

Notify = Callable[[str, UUID, str, Mapping[str, Any]], object]
"""Has operators told: the kind of the notice, the run and the step that noticed, and what there is to say."""

OUR_OWN = frozenset({"CircuitOpen", "BudgetBusy", "BudgetExceeded", "JournalMismatch"})
"""Failures that say nothing of the agent: something before it did not let it work."""


class Breakers:
    """What one process does with circuits."""

    def __init__(self, circuits: Circuits, notify: Notify, hands: Line) -> None:
        self._circuits = circuits
        self._notify = notify
        self._hands = hands
        self._asking = Together(partial(hands.call, circuits.ask))
        self._telling = Together(partial(hands.call, circuits.tell))
        self._renewals: dict[str, asyncio.Task[None]] = {}

    async def enter(self, name: str, breaker: Breaker) -> CircuitPass:
        """Leave to try this, which has to be told how it ended: see `leave`. Raises `CircuitOpen`."""
        passage = await self._asking.put((name, breaker))
        if passage.state == "open":
            raise CircuitOpen(
                f"the circuit of {name} is open: it kept failing, and is tried again in {passage.left:.3g} s",
                next_step="baton breakers ls",
                retry_after=passage.left,
            )
        if passage.token:
            self._renewals[passage.token] = asyncio.create_task(self._renew(passage))
        return passage

    async def leave(self, passage: CircuitPass, verdict: Evidence, run: UUID, path: str) -> Note | None:
        """Say how it ended; what the run should hear of it. Operators are told of a circuit that opens or closes."""
        renewal = self._renewals.pop(passage.token, None)
        if renewal is not None:
            renewal.cancel()
        change = await asyncio.shield(self._telling.put(End(passage, verdict)))
        if change is None:
            return None
        told = _told(passage, change)
        log.warning("%s", told["message"])
        if change.became != "reopened":
            await self._hands.call(self._announce, f"breaker.{change.became}", run, path, told)
        return Note(EventKind.STEP_WARNING, told)

    async def _renew(self, passage: CircuitPass) -> None:
        """Keep the place of a probe for as long as it takes."""
        while await self._hands.call(self._circuits.renew, passage):
            await asyncio.sleep(self._circuits.lease / 4)

    def _announce(self, kind: str, run: UUID, path: str, told: Mapping[str, Any]) -> None:
        try:
            self._notify(kind, run, path, told)
        except psycopg.Error as error:
            log.warning("nobody could be told of it: %s", error)


class BreakerGate:
    """Lets calls pass while the circuit of their tool or model is closed, or one of them as a probe."""

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Raises `CircuitOpen`."""
        if call.breaker is None:
            yield
            return
        passage = await self._breakers.enter(f"{call.kind} {call.name}", call.breaker)
        verdict: Evidence = "unknown"
        try:
            yield
            verdict = "good"
        except BaseException as error:
            verdict = of_call(error, call.deadline)
            raise
        finally:
            note = await self._breakers.leave(passage, verdict, call.run_id, call.path)
            if note is not None:
                call.notes.append(note)


def of_call(error: BaseException, deadline: float | None) -> Evidence:
    """What the end of a call says of its tool or model."""
    match error:
        case CallTimeout():
            return "bad"
        case ToolError():
            return "good"  # it has answered: what its model wanted was wrong
        case Permanent() | CircuitOpen():
            return "unknown"
        case asyncio.CancelledError():
            return "bad" if deadline is not None and time.monotonic() >= deadline else "unknown"
        case Exception():
            return "bad"
    return "unknown"


def of_attempt(outcome: Done | Failed | Waiting | Limited) -> Evidence:
    """What the end of an attempt says of its agent. What fails for good is about the input."""
    match outcome:
        case Done():
            return "good"
        case Failed(error=error) if error.retryable and error.type not in OUR_OWN:
            return "bad"
    return "unknown"


def _told(passage: CircuitPass, change: CircuitChange) -> dict[str, Any]:
    name, breaker = passage.name, passage.breaker
    match change.became:
        case "opened":
            why = f"{change.failed} of {change.ended} failed within {breaker.window:g} s"
            message = f"the circuit of {name} has opened for {breaker.open:g} s: {why}"
        case "reopened":
            message = f"the circuit of {name} stays open for {breaker.open:g} s: its probe failed"
        case "closed":
            message = f"the circuit of {name} is closed again: its probe succeeded"
    state = "closed" if change.became == "closed" else "open"
    counts = {"failed": change.failed, "ended": change.ended} if change.became == "opened" else {}
    return {"message": message, "breaker": name, "state": state, **counts}
