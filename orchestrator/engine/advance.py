"""What follows when a step ends: the one place where a run moves on.

An `Advance` lives inside one transaction. Steps that ended are told to it with `finished`; it works out, from the
plan, which steps open, which composites close and which runs end, and `settle` writes all of it in a few
statements, whatever the number of steps. What it made ready is sent after the commit, never before.

A fan-out's branches share no row. The transaction that ends a branch tries for the join's advisory lock: the holder
looks, in a fresh snapshot, whether any branch is left. Whoever does not get the lock at once leaves the join
`unsettled` and looks again after its own commit, waiting for the lock; so the last of any number of branches that
end together always sees all of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.definitions.plan import implied
from orchestrator.engine import child_runs, patterns
from orchestrator.engine.child_runs import Birth
from orchestrator.engine.gather import listed_results
from orchestrator.engine.ledger import Closing, Ledger, Row
from orchestrator.engine.moves import EndedPart, Place
from orchestrator.engine.plans import Plans
from orchestrator.engine.values import Ready, RunRef, error_text
from orchestrator.store import advance_queries as sql
from orchestrator.store import lock_queries
from orchestrator.store.connect import AnyConn
from schemas.workflows import Child, Each, FanOut, Joining, Leaf, Node


class _Items(NamedTuple):
    run: RunRef
    path: str
    node: Each
    input_ref: str
    delay: float | None


@dataclass(frozen=True)
class Join:
    """A fan-out in one run, and the run."""

    run: RunRef
    path: str


class Advance(Ledger):
    """Works out what follows from steps that ended; the ledger writes it."""

    def __init__(self, conn: AnyConn, plans: Plans) -> None:
        super().__init__(conn, plans)
        self.ready: list[Ready] = []
        self.unsettled: list[Join] = []
        self._items: list[_Items] = []
        self._births: list[Birth] = []
        self._looks: dict[tuple[UUID, str], Join] = {}
        self._freed: Counter[tuple[UUID, str]] = Counter()

    # --- what happened ------------------------------------------------------------------------------------

    def start(self, run: RunRef, delay: float | None = None) -> None:
        """A run begins with its first stage."""
        self._open(run, "0", run.plan.workflow.body.stages[0], "run", delay=delay)

    def finished(self, run: RunRef, path: str, output_ref: str | None, error: str | None = None) -> None:
        """The step at `path` ended, with an output or, if that is None, with an error (JSON text)."""
        above, _, segment = path.rpartition("/")
        node = run.plan.workflow.body if not above else run.plan.at(above).node
        match node:
            case Joining():
                if segment == "join":
                    self._close(run, above, output_ref, error)
                else:
                    self._looks[run.id, above] = Join(run, above)
                    self._freed[run.id, above] += 1
            case _:
                patterns.part_ended(self, Place(run, above), node, EndedPart(segment, output_ref, error))

    def look(self, join: Join) -> None:
        """Look whether this fan-out is complete, though no branch of it was told to have ended here."""
        self._looks[join.run.id, join.path] = join

    # --- what follows -------------------------------------------------------------------------------------

    def _open(
        self,
        run: RunRef,
        path: str,
        node: Node,
        ref: str,
        *,
        delay: float | None = None,
        ordinal: int = 0,
        value: str | None = None,
        told: bool = False,
    ) -> None:
        match node:
            case Leaf(agent=agent):
                self.rows.append(Row(run, path, ordinal, node, "ready", ref, delay, value, told))
                if delay is None:
                    self.send(run, path, agent)
            case _:
                due = _within(node, delay) if isinstance(node, Joining) else None
                self.rows.append(Row(run, path, ordinal, node, "open", ref, due, value, told))
                self._enter(run, path, node, ref, delay)

    def enter(self, run: RunRef, path: str, ref: str, delay: float | None = None) -> None:
        """A branch whose row exists already may start: send it, or open what is inside it."""
        node = run.plan.at(path).node
        if isinstance(node, Leaf):
            if delay is None:
                self.send(run, path, node.agent)
            return
        self._enter(run, path, node, ref, delay)
        if isinstance(node, Joining) and node.within is not None:
            self.conn.execute(sql.ARM_DEADLINE, {"run": run.id, "path": path, "within": _within(node, delay)})

    def _enter(self, run: RunRef, path: str, node: Node, ref: str, delay: float | None) -> None:
        """Start the first parts of a composite."""
        match node:
            case FanOut():
                self._open_branches(run, path, node, ref, delay)
            case Each():
                self._items.append(_Items(run, path, node, ref, delay))
            case Child():
                self._births.append(Birth(Place(run, path), ref, delay))
            case _:
                patterns.entered(self, Place(run, path), node, ref, delay)

    def wake(self, run: RunRef, path: str, *, started: int = 0) -> None:
        """An open step goes on with those of its parts that wait, `started` others having started already.

        That is how a run comes back whose steps had ended, or have been copied from another run.
        """
        node = run.plan.at(path).node
        if not isinstance(node, Joining):
            if not self._start_pending(run, path, 1 - started) and not path:
                self._enter(run, path, node, "run", None)
            return
        started_now = self._start_pending(run, path, node.window - started)
        if node.within is not None and f"{path}/join" not in started_now:
            self.conn.execute(sql.ARM_DEADLINE, {"run": run.id, "path": path, "within": node.within})

    def send(self, run: RunRef, path: str, agent: str) -> None:
        """Have a step sent after the commit; one of a paused run is only stored, and sent when the run is resumed."""
        if not run.paused:
            self.ready.append(Ready(run, path, agent))

    def _open_branches(
        self, run: RunRef, path: str, node: FanOut, ref: str, delay: float | None = None
    ) -> None:
        for index, (name, branch) in enumerate(node.branches.items()):
            below = _below(path, name)
            if index < node.window:
                self._open(run, below, branch, ref, delay=delay, ordinal=index)
            else:
                self.rows.append(Row(run, below, index, branch, "pending", ref, None))

    def _close(self, run: RunRef, path: str, output_ref: str | None, error: str | None) -> None:
        if path:
            state = "failed" if output_ref is None else "done"
            self.closings.append(Closing(run, path, state, output_ref, error))
        else:
            state = "failed" if output_ref is None else "completed"
            self.endings.append(Closing(run, path, state, output_ref, error))

    # --- what patterns may do (`Moves`) -------------------------------------------------------------------

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
        told = not implied(place.run.plan, place.path)
        self._open(place.run, place.below(segment), node, ref, delay=delay, ordinal=ordinal, told=told)

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
        path, told = place.below(segment), not implied(place.run.plan, place.path)
        ref, run = f"in:{path}", place.run
        self._open(run, path, node, ref, delay=delay, ordinal=ordinal, value=value, told=told)

    def close(self, place: Place, output_ref: str | None, error: str | None = None) -> None:
        """End the composite with an output, with an error (JSON text), or degraded, with both."""
        self._close(place.run, place.path, output_ref, error)

    def close_with(self, place: Place, value: str, error: str | None = None) -> None:
        """End the composite with an output of its own (JSON text), degraded if there is an error, too."""
        self.closings.append(Closing(place.run, place.path, "done", f"out:{place.path}", error, value))

    # --- writing it ---------------------------------------------------------------------------------------

    def settle(self, *, wait: bool = False) -> None:
        """Write everything that follows. With `wait`, wait for joins that others are looking at just now."""
        while self._has_more() or self.endings:
            while self._has_more():
                self.write_rows()
                self.write_notes()
                self.write_waits()
                self._write_items()
                self._write_births()
                self._write_closings()
                self._look_at_joins(wait)
            self._write_endings()
        self.write_notices()

    def _has_more(self) -> bool:
        steps = self.rows or self._items or self._births or self.closings or self._looks
        return bool(steps or self.notes or self.waits)

    def _write_births(self) -> None:
        self.write_rows()
        births, self._births = self._births, []
        if births:
            child_runs.start(self, births)

    def _write_endings(self) -> None:
        awaited = self.end_runs()
        if awaited:
            child_runs.tell_steps(self, [(ended.run, ended.output_ref) for ended in awaited])

    def met_again(self, rows: Sequence[Row]) -> None:
        """These steps were there already: what follows from those that are done is worked out once more.

        So a composite that failed by itself, a condition say, fails again when its run is resumed, or goes on.
        """
        runs = {(row.run.id, row.path): row.run for row in rows}
        keys = {"runs": [run for run, _ in runs], "paths": [path for _, path in runs]}
        for run_id, path, ref in self.conn.execute(sql.SELECT_DONE, keys).fetchall():
            self.finished(runs[run_id, path], path, ref)

    def _write_items(self) -> None:
        while self._items:
            batch, self._items = self._items, []
            for opening in batch:
                self.write_rows()
                self._expand(opening)

    def _expand(self, opening: _Items) -> None:
        run, path, node, _, delay = opening
        count, window = self._insert_items(opening), node.window
        if count == 0:
            self._looks[run.id, path] = Join(run, path)
        for index in range(min(count or 0, window)):
            self.enter(run, f"{path}/{index}", f"in:{path}/{index}", delay)

    def _insert_items(self, opening: _Items) -> int | None:
        """Make a row of every item; how many (none if that had been done), or None: the input is no fitting list."""
        run, path, node, ref, delay = opening
        leaf = node.body if isinstance(node.body, Leaf) else None
        arguments = {
            "run": run.id,
            "path": path,
            "kind": node.body.pattern,
            "agent": leaf.agent if leaf else None,
            "state": "ready" if leaf else "open",
            "window": node.window,
            "delay": delay if leaf else None,
            "held": run.paused and leaf is not None,
        }
        if ref.startswith("all:"):
            kind, items = listed_results(self.conn, run.id, run.plan, ref.removeprefix("all:"), node.items)
            size, made = len(items), 0
            if kind == "array" and size <= node.max_items:
                given = arguments | {"items": items}
                (made,) = self.conn.execute(sql.INSERT_GIVEN_ITEMS, given).fetchone() or (0,)
        else:
            given = arguments | {"ref": ref, "field": node.items, "most": node.max_items}
            row = self.conn.execute(sql.INSERT_ITEMS, given).fetchone()
            kind, size, made = row if row is not None else (None, None, 0)
        if kind == "array" and size <= node.max_items:
            return made
        self._close(run, path, None, _no_list(kind, size, node))
        return None

    def _write_closings(self) -> None:
        for c in self.close_steps():
            # What is degraded is no error to those around it.
            self.finished(c.run, c.path, c.output_ref, c.error if c.output_ref is None else None)

    def _look_at_joins(self, wait: bool) -> None:
        looks, self._looks = self._looks, {}
        freed, self._freed = self._freed, Counter()
        if not looks:
            return
        keys = {"runs": [run for run, _ in looks], "parents": [path for _, path in looks]}
        if wait:
            self.conn.execute(lock_queries.WAIT_JOINS, keys)
            held = set(looks)
        else:
            held = {(r, p) for r, p, got in self.conn.execute(lock_queries.TRY_JOINS, keys) if got}
            self.unsettled += [join for key, join in looks.items() if key not in held]
        for key, join in looks.items():
            self._promote(join, freed[key])
        if held:
            keys = {"runs": [run for run, _ in held], "parents": [path for _, path in held]}
            left = self.conn.execute(sql.SELECT_LEFT, keys).fetchall()
            self._join([looks[run_id, path] for run_id, path, is_left in left if not is_left])

    def _promote(self, join: Join, count: int) -> None:
        node = join.run.plan.at(join.path).node
        if not count or not _has_window(node):
            return
        self._start_pending(join.run, join.path, count)

    def _start_pending(self, run: RunRef, path: str, most: int) -> list[str]:
        """Start parts of an open step that wait, at most so many."""
        keys = {"run": run.id, "parent": path, "count": most, "paused": run.paused}
        rows = self.conn.execute(sql.PROMOTE, keys).fetchall()
        for part, ref, has_parts in rows:
            if has_parts:
                self.wake(run, part)
            else:
                self.enter(run, part, ref or f"in:{part}")
        return [part for part, _, _ in rows]

    def _join(self, joins: Sequence[Join]) -> None:
        """No branch of these is left: open their joins, or close them."""
        if not joins:
            return
        by_key = {(join.run.id, join.path): join for join in joins}
        keys = {"runs": [run for run, _ in by_key], "parents": [path for _, path in by_key]}
        opening = []
        for run_id, path, branches, done, error, failed in self.conn.execute(sql.TALLY, keys).fetchall():
            join = by_key[run_id, path]
            node: Any = join.run.plan.at(path).node
            required = node.required(branches)
            if done < required:
                self._close(join.run, path, None, _too_few(done, required, branches, failed, error))
            elif node.join is None:
                self._close(join.run, path, f"all:{path}", None)
            else:
                opening.append((join.run, path, node.join))
        self._open_joins(opening)

    def _open_joins(self, opening: Sequence[tuple[RunRef, str, str]]) -> None:
        if not opening:
            return
        keys = {
            "runs": [run.id for run, _, _ in opening],
            "parents": [path for _, path, _ in opening],
            "agents": [agent for _, _, agent in opening],
            "helds": [run.paused for run, _, _ in opening],
        }
        self.conn.execute(sql.OPEN_JOINS, keys)
        for run, path, agent in opening:
            self.send(run, f"{path}/join", agent)


def _within(node: Joining, delay: float | None) -> float | None:
    return None if node.within is None else node.within + (delay or 0.0)


def _has_window(node: Node) -> bool:
    match node:
        case FanOut(branches=branches):
            return len(branches) > node.window
        case Each():
            return node.max_items > node.window
    return False


def _no_list(kind: str | None, size: int | None, node: Each) -> str:
    what = f"its field {node.items!r}" if node.items else "its input"
    if kind != "array":
        return error_text("InputError", f"each needs a list, but {what} is {kind or 'missing'}")
    return error_text("InputError", f"{what} has {size} items, more than max_items={node.max_items}")


def _too_few(done: int, required: int, branches: int, failed: str | None, error: str | None) -> str:
    cause: dict[str, Any] = json.loads(error) if error else {}
    message = f"{done} of {branches} branches succeeded, {required} are required"
    if failed is not None:
        message += f"; {failed}: {cause.get('message', 'no reason given')}"
    return error_text("BranchesFailed", message)


def _below(path: str, segment: str) -> str:
    return f"{path}/{segment}" if path else segment
