"""One run in the hands of whoever submitted it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol
from uuid import UUID

from schemas.events import Event
from schemas.runs import RunView


class Runs(Protocol):
    """What a handle asks of the client that it comes from."""

    def result(self, run_id: UUID, timeout: float | None = None) -> Any: ...

    def stream(self, run_id: UUID, after: int = 0) -> Iterator[Event]: ...

    def cancel(self, run_id: UUID, reason: str = "") -> None: ...

    def send(self, handles: Iterable[RunHandle]) -> int: ...

    def pause(self, run_id: UUID, reason: str = "") -> None: ...

    def resume(self, run_id: UUID) -> None: ...

    def run(self, run_id: UUID) -> RunView: ...


class RunHandle:
    """One run, as its producer holds it."""

    def __init__(self, runs: Runs, run_id: UUID, *, created: bool = True) -> None:
        self._runs = runs
        self.id = run_id
        self.created = created
        """False when an idempotency key answered with a run that was there already."""

    def __repr__(self) -> str:
        return f"RunHandle({str(self.id)!r})"

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the output, as JSON data.

        Raises `RunFailed`, and `ResultTimeout` after `timeout` seconds.
        """
        return self._runs.result(self.id, timeout)

    def stream(self, after: int = 0) -> Iterator[Event]:
        """The events of the run as they happen, until it has ended."""
        return self._runs.stream(self.id, after)

    def cancel(self, reason: str = "") -> None:
        """End the run. Raises `Conflict` if it has ended already."""
        self._runs.cancel(self.id, reason)

    def send(self) -> int:
        """Send a run that was submitted on a `connection` at once, after its commit; see `Client.send`."""
        return self._runs.send([self])

    def pause(self, reason: str = "") -> None:
        """Let nothing more of the run start; what runs may finish. Raises `Conflict` if it has ended."""
        self._runs.pause(self.id, reason)

    def resume(self) -> None:
        """Let the run go on if it is paused, or from where it failed. Raises `Conflict` for any other."""
        self._runs.resume(self.id)

    def view(self) -> RunView:
        """The run as it stands, with its steps."""
        return self._runs.run(self.id)
