"""All that there is to know afterwards of what workers share: the ledger, the log of the provider, the books."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from tests.chaos.checker import Attempt, StepKey, Strike
from tests.chaos.ledger import Visit
from tests.chaos.paid.shop import credential_of
from tests.chaos.shared.office import Request

Query = Callable[..., list[tuple[Any, ...]]]

SCOUT, RING, PACK, CLERK = "0", "1", "2", "3"
"""The paths of the steps of an errand."""

TAKEN = ("lost", "released")
"""How attempts end that were taken from their workers, which may go on with them."""


class Errand(NamedTuple):
    """A row of `runs`."""

    state: str
    tenant: str
    number: int
    customer: str
    output: Any
    error: str


class Kept(NamedTuple):
    """A row of `journal`."""

    step: StepKey
    place: int
    name: str
    attempt: int
    value: Any
    at: float


class Opening(NamedTuple):
    """A circuit that has opened, as people were told."""

    circuit: str
    failed: int
    ended: int
    at: float


class TurnedAway(NamedTuple):
    """A call or an attempt that an open circuit did not let through."""

    circuit: str
    step: StepKey
    place: int | None
    at: float


class Decision(NamedTuple):
    """What a person has said about a call of high risk."""

    step: StepKey
    allowed: bool
    at: float


class Deed(NamedTuple):
    """Something that was done outside for an attempt, as the outside has seen it."""

    what: str
    """The tool, the agent, or the model."""
    step: StepKey
    place: int
    about: str
    tenant: str
    node: str
    at: float
    left: float | None
    """When it ended; None if nobody saw that."""
    failed: bool
    name: str
    started: float
    """Not earlier than this its attempt began; `inf` if none is known that could have done it."""
    soonest: float
    """Not earlier than this that attempt ended, by the books."""
    finished: float
    """Not later than this; of a call that is in the log, when it was written."""
    is_sure: bool
    """Whether all that there was to tell of it was told by then: its attempt ended by itself, or logged the call."""

    @property
    def until(self) -> float:
        """When it ended, or its attempt was over: from then on nothing is held for it."""
        return self.soonest if self.left is None else min(self.left, self.soonest)


@dataclass
class Facts:
    """Everything."""

    runs: dict[UUID, Errand]
    attempts: dict[StepKey, list[Attempt]]
    journal: Sequence[Kept]
    memories: Sequence[tuple[UUID, str]]
    """Of which run, and its text."""
    openings: Sequence[Opening]
    turned_away: Sequence[TurnedAway]
    decisions: Sequence[Decision]
    logged: dict[tuple[StepKey, int, str], list[float]]
    """When calls of a tool that were made were written into its log, by step, place and tool."""
    workers: dict[str, UUID]
    requests: Sequence[Request]
    visits: Sequence[Visit]
    strikes: Sequence[Strike] = ()
    blind: Sequence[tuple[str | None, float, float]] = ()
    """Which worker, or any of them, could not ask circuits, from when to when."""
    expected: int = 0
    """Runs that were accepted."""

    @cached_property
    def deeds(self) -> dict[str, list[Deed]]:
        """By what was done, in the order of their beginnings."""
        nodes = {credential_of(node): node for node in self.workers}
        runs = {run.number: (id, run.tenant) for id, run in self.runs.items()}
        found = [
            self._deed(
                one.tool, one.step, one.place, one.about, one.tenant, one.node, one.at, one.left, one.failed,
                one.name,
            )
            for one in self.visits
        ]  # fmt: skip
        for one in self.requests:
            id, tenant = runs[one.number]
            found.append(
                self._deed(
                    one.model, (id, CLERK), 0, "", tenant, nodes[one.credential], one.at, one.until, one.refused,
                )
            )  # fmt: skip
        by_what: defaultdict[str, list[Deed]] = defaultdict(list)
        for deed in sorted(found, key=lambda one: one.at):
            by_what[deed.what].append(deed)
        return by_what

    def struck(self, node: str, since: float, until: float, *kinds: str) -> bool:
        """Whether such a fault hit this worker in that time."""
        return any(
            node in strike.workers and strike.at <= until and strike.until >= since
            for strike in self.strikes
            if strike.kind in kinds
        )

    def is_blind(self, node: str, since: float, until: float) -> bool:
        """Whether this worker may have let something through because it could not ask."""
        return any(who in (node, None) and at <= until and over >= since for who, at, over in self.blind)

    def _deed(
        self,
        what: str,
        step: StepKey,
        place: int,
        about: str,
        tenant: str,
        node: str,
        at: float,
        left: float | None,
        failed: bool,
        name: str = "",
    ) -> Deed:
        worker = self.workers.get(node)
        # A worker that goes on after it was stopped may have the step again, beside what it had begun before.
        mine = [
            one
            for one in self.attempts.get(step, ())
            if one.worker == worker and one.started <= at and (one.finished >= at or one.state in TAKEN)
        ]
        finished = max((one.finished for one in mine), default=at)
        logged = [one for one in self.logged.get((step, place, what), ()) if left is not None and one >= left]
        return Deed(
            what, step, place, about, tenant, node, at, left, failed, name,
            started=min((one.started for one in mine), default=math.inf),
            soonest=min((one.finished for one in mine), default=at),
            finished=min([finished, *logged]),
            is_sure=bool(logged) or all(one.state not in TAKEN for one in mine),
        )  # fmt: skip


def gather(
    query: Query,
    requests: Sequence[Request],
    visits: Sequence[Visit],
    strikes: Sequence[Strike] = (),
    blind: Sequence[tuple[str | None, float, float]] = (),
) -> Facts:
    """Read everything."""
    attempts: defaultdict[StepKey, list[Attempt]] = defaultdict(list)
    for run, path, number, state, started, finished, worker in query(
        "SELECT run_id, path, attempt, state, started_at, finished_at, worker_id FROM attempts ORDER BY attempt"
    ):
        attempts[run, path].append(Attempt(number, state, started.timestamp(), finished.timestamp(), worker))
    logged: defaultdict[tuple[StepKey, int, str], list[float]] = defaultdict(list)
    for run, path, place, tool, at in query(
        "SELECT run_id, path, place, tool, at FROM tool_calls WHERE NOT cached"
    ):
        logged[(run, path), place, tool].append(at.timestamp())
    return Facts(
        runs={
            id: Errand(*row)
            for id, *row in query(
                "SELECT r.id, r.state, r.tenant, (r.input ->> 'number')::int, r.input ->> 'customer', s.output,"
                " coalesce(r.error ->> 'message', '')"
                " FROM runs r LEFT JOIN steps s ON s.run_id = r.id AND s.path = '3'"
            )
        },
        attempts=attempts,
        journal=[
            Kept((run, path), place, name, attempt, value, at.timestamp())
            for run, path, place, name, attempt, value, at in query(
                "SELECT run_id, path, position, name, attempt, value, at FROM journal ORDER BY position"
            )
        ],
        memories=[(run, text) for run, text in query("SELECT run_id, text FROM memories")],
        openings=[
            Opening(circuit, failed, ended, at.timestamp())
            for circuit, failed, ended, at in query(
                "SELECT body ->> 'breaker', (body ->> 'failed')::int, (body ->> 'ended')::int, at FROM notices"
                " WHERE kind = 'breaker.opened' ORDER BY at"
            )
        ],
        turned_away=_turned_away(query),
        decisions=[
            Decision((run, path), bool(answer), at.timestamp())
            for run, path, answer, at in query(
                "SELECT run_id, path, answer, settled_at FROM waits WHERE kind = 'question' AND decision = 'answered'"
            )
        ],
        logged=logged,
        workers={name: id for id, name in query("SELECT id, name FROM workers")},
        requests=requests,
        visits=visits,
        strikes=strikes,
        blind=blind,
    )


def _turned_away(query: Query) -> list[TurnedAway]:
    rows = query(
        "SELECT substring(error ->> 'message' FROM 'the circuit of (.*) is open'), run_id, path, NULL, finished_at"
        " FROM attempts WHERE starts_with(error ->> 'message', 'the circuit of ')"
        " UNION ALL SELECT substring(error FROM 'the circuit of (.*) is open'), run_id, path, place, at"
        " FROM tool_calls WHERE starts_with(error, 'the circuit of ')"
    )
    return [TurnedAway(circuit, (run, path), place, at.timestamp()) for circuit, run, path, place, at in rows]
