"""Cases become runs, some at a time, and are waited for. A run that an earlier try has started is found again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from schemas.errors import IdempotencyConflict
from schemas.evaluations import Case
from schemas.runs import RUN_ENDED, RunFigures
from schemas.workflows import Workflow

STALLED = 10.0
"""Seconds without an end after which it is told that nothing moves."""
_LOOK = 0.1
"""Seconds between two looks, while looking is cheap."""


class Handle(Protocol):
    @property
    def id(self) -> UUID: ...


class Source(Protocol):
    """The part of a client that is needed to run cases."""

    def submit(
        self, workflow: Workflow, input: Any, *, idempotency_key: str, labels: Mapping[str, str]
    ) -> Handle: ...

    def figures(self, runs: Sequence[UUID]) -> list[RunFigures]: ...


class CaseRun(NamedTuple):
    """One case for one definition."""

    workflow: Workflow
    case: Case


def nothing(_: Any) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Evaluator:
    """Runs jobs under the name of one evaluation.

    A run's idempotency key is made of that name, its definition and its case: whoever evaluates again under the same
    name goes on, and what has ended is not run again.
    """

    source: Source
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    parallel: int = 8
    """Runs at a time."""
    within: float | None = None
    """Seconds after which nothing more is waited for."""
    on_end: Callable[[RunFigures | None], None] = nothing
    on_stall: Callable[[UUID], None] = nothing
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def run(self, jobs: Sequence[CaseRun]) -> list[RunFigures | None]:
        """How each job's run stands in the end, in the order of the jobs; None for one that was not begun in time.

        Raises `IdempotencyConflict` if the name was used for a case with another input.
        """
        waiting = deque(enumerate(jobs))
        under_way: dict[UUID, int] = {}
        stands: list[RunFigures | None] = [None] * len(jobs)
        began = moved = self.clock()
        while waiting or under_way:
            while waiting and len(under_way) < self.parallel:
                number, job = waiting.popleft()
                under_way[self._submit(job)] = number
            looked = self.clock()
            found = {one.id: one for one in self.source.figures(list(under_way))}
            for run in list(under_way):
                # One that is not found was pruned: it has no figures any more.
                stands[under_way[run]] = one = found.get(run)
                if one is None or one.state in RUN_ENDED:
                    del under_way[run]
                    self.on_end(one)
                    moved = self.clock()
            now = self.clock()
            if self.within is not None and now - began > self.within:
                break
            if under_way and now - moved > STALLED:
                self.on_stall(next(iter(under_way)))
                moved = now
            if len(under_way) == self.parallel or not waiting:
                self.pause(max(_LOOK, 3 * (now - looked)))  # the attempts of wide runs take a while to add up
        return stands

    def _submit(self, job: CaseRun) -> UUID:
        labels = {**self.labels, "evaluation": self.name, "case": job.case.id}
        key = f"evaluation {self.name} {job.workflow.id} {job.case.id}"
        try:
            return self.source.submit(job.workflow, job.case.input, idempotency_key=key, labels=labels).id
        except IdempotencyConflict as error:
            raise IdempotencyConflict(
                f"in the evaluation {self.name!r}, case {job.case.id!r} had another input",
                next_step="give the cases ids that stay theirs, or choose another --name",
            ) from error
