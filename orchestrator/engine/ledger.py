"""What is to be written about runs that move on, in a few statements whatever the number of steps."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.definitions.plan import parent_of
from orchestrator.engine.gather import Results, read_results, resolve_all
from orchestrator.engine.json_texts import read
from orchestrator.engine.moves import Place
from orchestrator.engine.plans import Plans
from orchestrator.engine.spending import warn
from orchestrator.engine.values import RunRef, Spent
from orchestrator.masking.masker import discreet_json
from orchestrator.store import advance_queries as sql
from orchestrator.store import attempt_queries, notice_queries, wait_queries
from orchestrator.store.connect import AnyConn
from schemas.events import EventKind
from schemas.usage import Usage
from schemas.waits import Asking, WaitKind
from schemas.workflows import Leaf, Node


class Row(NamedTuple):
    """A step that comes to be."""

    run: RunRef
    path: str
    ordinal: int
    node: Node
    state: str
    input_ref: str
    due: float | None
    input: str | None = None
    """A value of its own (JSON text), which the reference then names."""
    told: bool = False
    """Whether an event says that it opened."""


class Closing(NamedTuple):
    """A composite step, or a run, that ends."""

    run: RunRef
    path: str
    state: str
    output_ref: str | None
    error: str | None
    output: str | None = None
    """A value of its own (JSON text), which the reference then names."""


class Ledger(ABC):
    """Collects rows, ends and notes, writes them when it is told to, and reads what a decision needs."""

    def __init__(self, conn: AnyConn, plans: Plans) -> None:
        self.conn = conn
        self.plans = plans
        self.rows: list[Row] = []
        self.closings: list[Closing] = []
        self.endings: list[Closing] = []
        self.ended: list[UUID] = []
        """Runs whose end has been written."""
        self.counted: set[str] = set()
        """The accounts, of others than runs, in which this transaction has counted."""
        self.notes: list[tuple[UUID, EventKind, str, str]] = []
        self.waits: list[tuple[Place, Asking]] = []
        self.notices: list[tuple[str, UUID, str, str]] = []

    # --- collecting ---------------------------------------------------------------------------------------

    def note(self, place: Place, kind: EventKind, data: Mapping[str, Any]) -> None:
        """Tell something about the composite."""
        self.notes.append((place.run.id, kind, place.path, _told(data)))

    def wait(self, place: Place, asking: Asking) -> None:
        """Have a step wait for what comes from outside."""
        self.waits.append((place, asking))

    def tell(self, place: Place, kind: str, body: Mapping[str, Any]) -> None:
        """Have people told something."""
        self.notices.append((kind, place.run.id, place.path, _told(body)))

    # --- writing ------------------------------------------------------------------------------------------

    def write_rows(self) -> None:
        """Insert the steps. A resumed or forked run has some already: those of them that are done are gone on from."""
        rows, self.rows = self.rows, []
        if not rows:
            return
        inserted = self.conn.execute(
            sql.INSERT_STEPS,
            {
                "runs": [row.run.id for row in rows],
                "paths": [row.path for row in rows],
                "parents": [parent_of(row.path) for row in rows],
                "ordinals": [row.ordinal for row in rows],
                "kinds": [row.node.pattern for row in rows],
                "agents": [row.node.agent if isinstance(row.node, Leaf) else None for row in rows],
                "states": [row.state for row in rows],
                "inputs": [row.input for row in rows],
                "input_refs": [row.input_ref if row.input is None else None for row in rows],
                "dues": [row.due for row in rows],
                "helds": [row.run.paused and row.state == "ready" for row in rows],
            },
        ).fetchall()
        if len(inserted) < len(rows):
            made = set(inserted)
            self.met_again([row for row in rows if (row.run.id, row.path) not in made])
            rows = [row for row in rows if (row.run.id, row.path) in made]
        for row in rows:
            if row.told:
                place = Place(row.run, parent_of(row.path))
                self.note(place, EventKind.STEP_OPENED, {"steps": {row.path: row.state}})
        self.write_notes()

    @abstractmethod
    def met_again(self, rows: Sequence[Row]) -> None:
        """These steps were there already."""

    def write_notes(self) -> None:
        """Insert the events."""
        notes, self.notes = self.notes, []
        if notes:
            runs, kinds, paths, data = (list(column) for column in zip(*notes, strict=True))
            keys = {"runs": runs, "kinds": kinds, "paths": paths, "data": data}
            self.conn.execute(attempt_queries.NOTE_EVENTS, keys)

    def write_waits(self) -> None:
        """Insert the waits; their steps hold no worker from now on."""
        waits, self.waits = self.waits, []
        if waits:
            self.conn.execute(wait_queries.INSERT_WAITS, _wait_columns(waits))

    def write_notices(self) -> None:
        """Insert what people are to be told."""
        notices, self.notices = self.notices, []
        if notices:
            kinds, runs, paths, bodies = (list(column) for column in zip(*notices, strict=True))
            keys = {"kinds": kinds, "runs": runs, "paths": paths, "bodies": bodies}
            self.conn.execute(notice_queries.INSERT_NOTICES, keys)

    def close_steps(self) -> list[Closing]:
        """Close composites; those that nobody else had closed first, a deadline say."""
        closings, self.closings = self.closings, []
        if not closings:
            return []
        closed = set(
            self.conn.execute(
                sql.CLOSE_STEPS,
                {
                    "runs": [c.run.id for c in closings],
                    "paths": [c.path for c in closings],
                    "states": [c.state for c in closings],
                    "outputs": [c.output for c in closings],
                    "output_refs": [c.output_ref if c.output is None else None for c in closings],
                    "errors": [c.error and discreet_json(c.error) for c in closings],
                },
            ).fetchall()
        )
        return [c for c in closings if (c.run.id, c.path) in closed]

    def end_runs(self) -> list[Closing]:
        """End runs; those of them that a step waits for."""
        endings, self.endings = self.endings, []
        self.ended += [one.run.id for one in endings]
        if not endings:
            return []
        budgeted = {f"run:{one.run.id}" for one in endings if one.run.plan.budget is not None}
        warn(self.conn, budgeted | self.counted, [one.run.id for one in endings])
        awaited = self.conn.execute(
            sql.END_RUNS,
            {
                "runs": [e.run.id for e in endings],
                "states": [e.state for e in endings],
                "output_refs": [e.output_ref for e in endings],
                "errors": [e.error and discreet_json(e.error) for e in endings],
            },
        ).fetchall()
        return [e for e in endings if (e.run.id,) in awaited] if awaited else []

    # --- reading ------------------------------------------------------------------------------------------

    def value(self, run: RunRef, ref: str) -> Any:
        """The value behind a reference. Raises `Unreadable`."""
        self.write_rows()
        if ref.startswith("all:"):
            return read(resolve_all(self.conn, run.id, run.plan, ref))
        (text,) = self.conn.execute(sql.SELECT_VALUE, {"run": run.id, "ref": ref}).fetchone() or (None,)
        return read(text) if text is not None else None

    def results(self, place: Place) -> Results:
        """What the branches of a fan-out produced."""
        return read_results(self.conn, place.run.id, place.run.plan, place.path)

    def spent(self, run: RunRef) -> Spent:
        """What the run has consumed so far."""
        row = self.conn.execute(sql.SELECT_SPENT, {"run": run.id}).fetchone() or (0, 0.0, 0, 0.0)
        tokens, usd, calls, seconds = row
        return Spent(Usage(tokens=tokens, usd=usd, model_calls=calls), seconds)

    def input_ref(self, place: Place) -> str:
        """The reference with which the composite was opened."""
        self.write_rows()
        keys = {"run": place.run.id, "path": place.path}
        (ref,) = self.conn.execute(sql.SELECT_INPUT_REF, keys).fetchone() or (None,)
        return str(ref) if ref is not None else f"in:{place.path}"

    def outputs(self, place: Place) -> list[tuple[int, str]]:
        """The parts that are done so far, as (ordinal, reference to the output), in order."""
        keys = {"run": place.run.id, "parent": place.path}
        return [
            (ordinal, ref) for ordinal, ref in self.conn.execute(sql.SELECT_PART_OUTPUTS, keys).fetchall()
        ]


def _request(asking: Asking) -> str:
    """What people are shown is masked; what an event is compared with, and a journal, has to stay."""
    if asking.kind is WaitKind.APPROVAL:
        return _told(asking.request)
    return json.dumps(asking.request, default=str)


def _told(data: Mapping[str, Any]) -> str:
    """As JSON text. A run's input may hold a credential; what is told of it does not."""
    return discreet_json(json.dumps(data, default=str))


def _wait_columns(waits: Sequence[tuple[Place, Asking]]) -> dict[str, list[Any]]:
    asked = [asking for _, asking in waits]
    return {
        "runs": [place.run.id for place, _ in waits],
        "paths": [place.path for place, _ in waits],
        "kinds": [one.kind for one in asked],
        "keys": [one.key for one in asked],
        "requests": [_request(one) for one in asked],
        "audiences": [json.dumps(one.audience) for one in asked],
        "escalate_tos": [json.dumps(one.escalate_to) for one in asked],
        "escalate_afters": [one.escalate_after for one in asked],
        "expires": [one.expires for one in asked],
        "expiries": [one.expiry.model_dump_json() if one.expiry is not None else None for one in asked],
        "told": [_told(one.told) for one in asked],
        "helds": [place.run.paused for place, _ in waits],
    }
