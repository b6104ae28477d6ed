"""What a run and each of its steps came to: attempts, usage and time, added up from the attempts below."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from orchestrator.definitions.plan import parent_of
from schemas.events import Event, EventKind
from schemas.runs import StepKind, Totals
from schemas.usage import Usage


class Spent(NamedTuple):
    """What the ended attempts of one step came to."""

    attempts: int
    usage: Usage
    busy: float
    began: datetime


RUN = ""
"""The path of the run itself."""

_ENDS = frozenset(
    {
        EventKind.STEP_DONE,
        EventKind.STEP_FAILED,
        EventKind.STEP_RETRYING,
        EventKind.STEP_WAITING,
        EventKind.STEP_LIMITED,
        EventKind.STEP_LOST,
        EventKind.STEP_RELEASED,
    }
)


def totals_of(spent: Mapping[str, Spent], ends: Mapping[str, datetime | None]) -> dict[str, Totals]:
    """By path: a step with everything below it, and the run under the empty path. `ends` says when each one ended."""
    parts: defaultdict[str, list[Spent]] = defaultdict(list)
    for path, one in spent.items():
        above = path
        while above:
            parts[above].append(one)
            above = parent_of(above)
        parts[RUN].append(one)
    return {path: _together(below, ends.get(path)) for path, below in parts.items()}


def _together(parts: Sequence[Spent], end: datetime | None) -> Totals:
    began = min(one.began for one in parts)
    return Totals(
        attempts=sum(one.attempts for one in parts),
        # Not `+`, which would make a model for each of ten thousand branches.
        usage=Usage(
            tokens=sum(one.usage.tokens for one in parts),
            usd=sum(one.usage.usd for one in parts),
            model_calls=sum(one.usage.model_calls for one in parts),
        ),
        busy=sum(one.busy for one in parts),
        began_at=began,
        seconds=(end - began).total_seconds() if end is not None else None,
    )


def spent_in_rows(rows: Iterable[Sequence[Any]]) -> dict[str, Spent]:
    """From what `SELECT_SPENT` finds."""
    return {
        path: Spent(number, Usage.model_validate(usage), busy, began)
        for path, number, usage, busy, began in rows
    }


def spent_in_children(rows: Iterable[Mapping[str, Any]]) -> dict[str, Spent]:
    """What child runs have consumed that were awaited: their steps are told of it when they end."""
    return {
        row["path"]: Spent(0, Usage.model_validate(row["usage"]), 0.0, row["ready_at"])
        for row in rows
        if row["kind"] == StepKind.CHILD and row["usage"] and row["ready_at"]
    }


def spent_in_events(events: Iterable[Event]) -> dict[str, Spent]:
    """The same from the events of a run, up to some moment."""
    under_way: dict[str, datetime] = {}
    spent: dict[str, Spent] = {}
    for event in events:
        if event.kind is EventKind.STEP_STARTED:
            under_way[event.path] = event.at
        elif event.kind in _ENDS and event.path in under_way:
            began = under_way.pop(event.path)
            now = Spent(
                1,
                Usage.model_validate(event.data.get("usage", {})),
                (event.at - began).total_seconds(),
                began,
            )
            spent[event.path] = _added(spent[event.path], now) if event.path in spent else now
    return spent


def _added(one: Spent, other: Spent) -> Spent:
    return Spent(
        one.attempts + other.attempts,
        one.usage + other.usage,
        one.busy + other.busy,
        min(one.began, other.began),
    )
