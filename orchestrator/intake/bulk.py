"""The same move for many runs: each in a transaction of its own, so that one that refuses stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

from schemas.errors import Conflict, Fault, InputError, NotFound


class Selection(NamedTuple):
    """Which runs are meant: those that all of this is true of."""

    workflow: str | None = None
    labels: Mapping[str, str] | None = None
    tenant: str | None = None

    def check(self) -> None:
        """Refuse a selection that means every run there is. Raises `InputError`."""
        if self.workflow is None and not self.labels and self.tenant is None:
            raise InputError(
                "runs",
                [Fault("", "which ones is not said: that would be all")],
                next_step="name a workflow, labels or a tenant",
            )


class Moved(NamedTuple):
    """One run, and the reason why it stayed as it was, if it did."""

    run_id: UUID
    refusal: Conflict | NotFound | None


def move_each(runs: Iterable[UUID], move: Callable[[UUID], object]) -> Iterator[Moved]:
    """Move one run after the other, as the caller asks for them."""
    for run_id in runs:
        try:
            move(run_id)
        except (Conflict, NotFound) as refusal:
            yield Moved(run_id, refusal)
        else:
            yield Moved(run_id, None)
