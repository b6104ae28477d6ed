"""What an agent sees of the world besides its input."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from orchestrator.engine import Note
from schemas.errors import AgentError
from schemas.events import EventKind
from schemas.state import Scope
from schemas.usage import Usage
from workers.state import Memory, Session, State, memory_of


@dataclass
class Context:
    """The envelope of one attempt: identities, the run's original intent, and what is left of its time."""

    run_id: UUID
    path: str
    """The step, e.g. `0/review/2`."""
    attempt: int
    """1 for the first try."""
    workflow: str
    tenant: str
    labels: Mapping[str, str]
    intent: Any
    """The input of the run as its producer gave it, as JSON data."""
    deadline: float
    """`time.monotonic()` at which this attempt is stopped."""
    usage: Usage = field(default_factory=Usage)
    _notes: list[Note] = field(default_factory=list)
    _memory: Memory | None = None

    @property
    def remaining(self) -> float:
        """Seconds left for this attempt."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this step: hand it to services that a retry must not ask twice."""
        return f"{self.run_id}:{self.path}"

    def spend(self, *, tokens: int = 0, usd: float = 0.0, model_calls: int = 0) -> None:
        """Add to what this attempt consumed; it is rolled up to the run, also when the attempt fails."""
        self.usage += Usage(tokens=tokens, usd=usd, model_calls=model_calls)

    def progress(self, **data: Any) -> None:
        """Note something about the work as an event of the run, committed together with the outcome."""
        self._notes.append(Note(EventKind.PROGRESS, data))

    def decide(
        self, choice: Any, why: str = "", alternatives: Mapping[str, float] | Iterable[str] = ()
    ) -> None:
        """Note a decision and what it was taken instead of, committed with the outcome; see `baton runs explain`.

        Alternatives are names, or names with how sure one would be of them.
        """
        rivals = alternatives if isinstance(alternatives, Mapping) else dict.fromkeys(alternatives, None)
        told = {"choice": choice, "by": "step", "reason": why, "alternatives": dict(rivals)}
        self._notes.append(Note(EventKind.STEP_DECIDED, {k: v for k, v in told.items() if v != {}}))

    @property
    def key(self) -> str | None:
        """What the event that started the run is about, by the `key` of its subscription."""
        return self.labels.get("key")

    @property
    def state(self) -> State:
        """What the steps of this run share."""
        return State(memory_of(self._memory), Scope.RUN, str(self.run_id))

    @property
    def scratch(self) -> State:
        """What this step notes for its next attempt. What that writes counts anew."""
        return State(memory_of(self._memory), Scope.STEP, f"{self.run_id}:{self.path}")

    def shared(self, key: str | None = None) -> State:
        """What all runs of this tenant share that name this key; without one, the key of this run's event."""
        return State(memory_of(self._memory), Scope.KEY, self._key(key))

    def session(self, key: str | None = None) -> Session:
        """The conversation of this key; without one, of the key of this run's event."""
        return Session(memory_of(self._memory), self._key(key))

    def _key(self, key: str | None) -> str:
        found = key if key is not None else self.key
        if found is None:
            raise AgentError("name a key: no event with a key has started this run")
        return found
