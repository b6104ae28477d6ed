"""All that there is to know of paid work afterwards: the books of Postgres, the ledger, the log of the provider."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from tests.chaos.checker import Attempt, StepKey, Strike
from tests.chaos.ledger import Visit
from tests.chaos.paid.shop import Request, credential_of

Query = Callable[..., list[tuple[Any, ...]]]

MODEL = "0"
"""The path of the step whose agent is a model."""

_ASKED = re.compile(r"asked\W+(\d+)")


class Run(NamedTuple):
    """A row of `runs`."""

    state: str
    tenant: str
    number: int
    output: Any
    error: str


class Entry(NamedTuple):
    """A row of `journal`: what is finished."""

    step: StepKey
    place: int
    name: str
    attempt: int
    value: Any
    at: float

    @property
    def asked(self) -> int:
        """Of an answer of the model: which of the requests for it brought it."""
        found = _ASKED.search(str(self.value["response"]))
        assert found is not None
        return int(found[1])


class Cost(NamedTuple):
    """A row of `costs`."""

    step: StepKey
    attempt: int
    tokens: int
    output_tokens: int
    usd: float
    at: float
    lost: str | None = None
    """Of a call whose attempt was taken back: whether anybody has told of its end since."""

    @property
    def is_seen(self) -> bool:
        """Whether its end was seen; else it costs what it was told."""
        return self.output_tokens > 0


class Held(NamedTuple):
    """A place, or what is set aside, that an attempt has not given back."""

    step: StepKey
    attempt: int


class Deed(NamedTuple):
    """Something that was done for an attempt, from when to when: a request, or a visit."""

    what: str
    """`model`, `look_up`, `pay` or `book`."""
    step: StepKey
    place: int
    """Of a visit in the journal; of a request its turn."""
    attempt: int | None
    """None if no attempt is known that could have done it."""
    tenant: str
    node: str
    at: float
    until: float
    """When it ended, or its attempt was taken back: from then on nothing is held for it."""
    asked: int = 0


@dataclass
class Facts:
    """Everything."""

    runs: dict[UUID, Run]
    attempts: dict[StepKey, list[Attempt]]
    told: dict[UUID, tuple[int, float]]
    """Model calls and dollars that the attempts of a run have told."""
    journal: Sequence[Entry]
    costs: Sequence[Cost]
    windows: dict[str, float]
    """Dollars that count in the budget of a tenant."""
    budgets: dict[str, float]
    """Dollars that it may spend."""
    permits: Sequence[Held]
    reservations: Sequence[Held]
    workers: dict[str, UUID]
    requests: Sequence[Request]
    visits: Sequence[Visit]
    strikes: Sequence[Strike] = ()
    expected: int = 0
    """Runs that were accepted."""
    failures: tuple[str, ...] = field(default=("lost", "released", "failed"))
    """How attempts end that did not get to keep what they had begun."""
    _done_by: set[tuple[str, StepKey, int, int]] = field(default_factory=set)

    @cached_property
    def answered(self) -> list[Deed]:
        """Requests of the model that were answered, whoever heard it."""
        nodes = {credential_of(node): node for node in self.workers}
        runs = {run.number: (id, run.tenant) for id, run in self.runs.items()}
        found = []
        for one in self.requests:
            if one.refused:
                continue
            id, tenant = runs[one.number]
            node, step = nodes[one.credential], (id, MODEL)
            found.append(self._deed("model", step, one.turn, tenant, node, one.at, one.until, one.asked))
        return found

    @cached_property
    def visited(self) -> list[Deed]:
        """Effects of tools and blocks."""
        return [
            self._deed(one.tool, one.step, one.place, one.tenant, one.node, one.at, one.left)
            for one in self.visits
        ]

    @cached_property
    def answers(self) -> dict[tuple[StepKey, int], Entry]:
        """What the model has said, by step and turn."""
        found = {}
        turns: defaultdict[StepKey, int] = defaultdict(int)
        for entry in sorted(self.journal, key=lambda entry: entry.place):
            if entry.name == "model":
                found[entry.step, turns[entry.step]] = entry
                turns[entry.step] += 1
        return found

    @cached_property
    def done(self) -> dict[tuple[StepKey, int], Entry]:
        """What tools and blocks have given, by step and place."""
        return {(entry.step, entry.place): entry for entry in self.journal if entry.name != "model"}

    def end_of(self, step: StepKey, attempt: int | None) -> Attempt | None:
        """How an attempt ended."""
        return next((one for one in self.attempts[step] if one.attempt == attempt), None)

    def _deed(
        self,
        what: str,
        step: StepKey,
        place: int,
        tenant: str,
        node: str,
        at: float,
        left: float | None,
        asked: int = 0,
    ) -> Deed:
        began = [
            one for one in self.attempts[step] if one.worker == self.workers.get(node) and one.started <= at
        ]
        whose = self._whose(began, what, step, place, at, asked)
        if whose is None:
            return Deed(what, step, place, None, tenant, node, at, at, asked)
        until = whose.finished if left is None else min(left, whose.finished)
        return Deed(what, step, place, whose.attempt, tenant, node, at, until, asked)

    def _whose(
        self, began: Sequence[Attempt], what: str, step: StepKey, place: int, at: float, asked: int
    ) -> Attempt | None:
        """The attempt that did this: the one that has kept it, or else one that was taken back and has not done it yet.

        A worker that goes on after it was stopped may have the step again, beside what it had begun before.
        """
        stopped = [one for one in began[:-1] if one.state in ("lost", "released")]
        if not stopped:
            return began[-1] if began else None
        entry = self.answers.get((step, place)) if what == "model" else self.done.get((step, place))
        if entry is not None and (entry.asked == asked if what == "model" else at <= entry.at):
            return next((one for one in began if one.attempt == entry.attempt), began[-1])
        free = [one for one in stopped if (what, step, place, one.attempt) not in self._done_by]
        found = (free or stopped)[0]
        self._done_by.add((what, step, place, found.attempt))
        return found


def gather(
    query: Query, requests: Sequence[Request], visits: Sequence[Visit], strikes: Sequence[Strike] = ()
) -> Facts:
    """Read everything."""
    attempts: defaultdict[StepKey, list[Attempt]] = defaultdict(list)
    for run, path, number, state, started, finished, worker in query(
        "SELECT run_id, path, attempt, state, started_at, finished_at, worker_id FROM attempts ORDER BY attempt"
    ):
        attempts[run, path].append(Attempt(number, state, started.timestamp(), finished.timestamp(), worker))
    return Facts(
        runs=_runs(query),
        attempts=attempts,
        told={
            run: (calls, usd)
            for run, calls, usd in query(
                "SELECT run_id, coalesce(sum((usage ->> 'model_calls')::int), 0),"
                " coalesce(sum((usage ->> 'usd')::float8), 0) FROM attempts GROUP BY 1"
            )
        },
        journal=[
            Entry((run, path), place, name, attempt, value, at.timestamp())
            for run, path, place, name, attempt, value, at in query(
                "SELECT run_id, path, position, name, attempt, value, at FROM journal"
            )
        ],
        costs=[
            Cost((run, path), attempt, tokens, output, usd, at.timestamp(), lost)
            for run, path, attempt, tokens, output, usd, at, lost in query(
                "SELECT run_id, path, attempt, tokens, output_tokens, usd::float8, at, lost FROM costs"
                " WHERE model_calls > 0"
            )
        ],
        windows=dict(
            query(
                "SELECT split_part(account, ':', 3), sum(usd)::float8 FROM budget_windows"
                " WHERE split_part(account, ':', 2) = 'tenant' GROUP BY 1"
            )
        ),
        budgets=dict(query("SELECT name, (terms ->> 'usd')::float8 FROM budgets WHERE scope = 'tenant'")),
        permits=_held(query, "permits"),
        reservations=_held(query, "reservations"),
        workers={name: id for id, name in query("SELECT id, name FROM workers")},
        requests=requests,
        visits=visits,
        strikes=strikes,
    )


def _runs(query: Query) -> dict[UUID, Run]:
    rows = query(
        "SELECT r.id, r.state, r.tenant, (r.input ->> 'number')::int, s.output, r.error ->> 'message'"
        " FROM runs r LEFT JOIN steps s ON s.run_id = r.id AND s.path = '1'"
    )
    return {
        id: Run(state, tenant, number, output, error or "")
        for id, state, tenant, number, output, error in rows
    }


def _held(query: Query, table: str) -> list[Held]:
    rows = query(f"SELECT DISTINCT run_id, path, attempt FROM {table}")  # noqa: S608  a name of ours
    return [Held((run, path), attempt) for run, path, attempt in rows]
