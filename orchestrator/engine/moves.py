"""What a pattern may do to a run: open a part, close itself, tell why. `Advance` does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.engine.gather import Results
from orchestrator.engine.values import RunRef, Spent
from schemas.events import EventKind
from schemas.waits import Asking
from schemas.workflows import Node


@dataclass(frozen=True)
class Place:
    """A composite step of one run; the path of the run itself is empty."""

    run: RunRef
    path: str

    def below(self, segment: str) -> str:
        """The path of a part."""
        return f"{self.path}/{segment}" if self.path else segment


@dataclass(frozen=True)
class EndedPart:
    """A part that ended: with a reference to its output, or with an error (JSON text)."""

    segment: str
    output_ref: str | None
    error: str | None


class Moves(Protocol):
    """All of it happens inside one transaction, with the outcome that caused it."""

    def open_part(
        self,
        place: Place,
        segment: str,
        node: Node,
        ref: str,
        *,
        ordinal: int = 0,
        delay: float | None = None,
    ) -> None:
        """Start a part on the value behind a reference, `delay` seconds from now."""

    def open_part_on(
        self,
        place: Place,
        segment: str,
        node: Node,
        value: str,
        *,
        ordinal: int = 0,
        delay: float | None = None,
    ) -> None:
        """Start a part on a value of its own (JSON text)."""

    def close(self, place: Place, output_ref: str | None, error: str | None = None) -> None:
        """End the composite with an output or, if that is None, with an error (JSON text).

        With both, the error is why the output is not what it would have been: the run is degraded.
        """

    def wait(self, place: Place, asking: Asking) -> None:
        """Have the composite wait until somebody outside ends that; see `orchestrator.engine.waits`."""

    def close_with(self, place: Place, value: str, error: str | None = None) -> None:
        """End the composite with an output of its own (JSON text), and why it is not what it would have been."""

    def tell(self, place: Place, kind: str, body: Mapping[str, Any]) -> None:
        """Have people told something, after the commit; see `schemas.notices`."""

    def note(self, place: Place, kind: EventKind, data: Mapping[str, Any]) -> None:
        """Tell something about the composite."""

    def value(self, run: RunRef, ref: str) -> Any:
        """The value behind a reference. Raises `Unreadable`."""

    def input_ref(self, place: Place) -> str:
        """The reference with which the composite was opened."""

    def results(self, place: Place) -> Results:
        """What the branches of a fan-out produced."""

    def spent(self, run: RunRef) -> Spent:
        """What the run has consumed so far."""

    def outputs(self, place: Place) -> list[tuple[int, str]]:
        """The parts that are done so far, as (ordinal, reference to the output), in order."""
