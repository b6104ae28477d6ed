"""What an agent sees of the world besides its input."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from schemas.usage import Usage


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
    _notes: list[dict[str, Any]] = field(default_factory=list)

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
        self._notes.append(data)
