"""Sets a failed run back to where it can go on: what is done stays done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.definitions.plan import Plan
from orchestrator.engine.values import RunRef
from orchestrator.store import control_queries as sql
from orchestrator.store.connect import AnyConn
from orchestrator.store.journal_queries import FORGET_UNANSWERED
from schemas.workflows import Joining, Route, Stage


class Opening(Protocol):
    """What this room needs of an `Advance`."""

    conn: AnyConn

    def wake(self, run: RunRef, path: str, *, started: int = 0) -> None: ...


def set_back(advance: Opening, run: RunRef) -> None:
    """Reopen the failed and skipped steps between the run and its end.

    A gap that a join has accepted stays one, as does whatever failed below a step that is done. All others wait for
    their turn, and come back as they first came: no more of a fan-out than its `parallel` at a time.
    """
    rows = advance.conn.execute(sql.SELECT_UNDONE, {"run": run.id}).fetchall()
    undone = [(path, parent) for path, parent, _ in rows]
    keys = {"run": run.id, "paths": unsettled(run.plan, undone)}
    advance.conn.execute(sql.REOPEN_STEPS, keys)
    advance.conn.execute(FORGET_UNANSWERED, keys)
    advance.wake(run, "")


def unsettled(plan: Plan, undone: Sequence[tuple[str, str]]) -> list[str]:
    """Of all steps of a run that are not done, as (path, parent): those whose outcome nothing has used yet."""
    paths = {path for path, _ in undone}
    used = {path for path, parent in undone if _is_used(plan, path, parent, paths)}
    settled: dict[str, bool] = {"": False}

    def is_settled(path: str) -> bool:
        if path not in settled:
            parent = path.rpartition("/")[0]
            settled[path] = path not in paths or path in used or is_settled(parent)
        return settled[path]

    return [path for path, _ in undone if not is_settled(path)]


def _is_used(plan: Plan, path: str, parent: str, undone: set[str]) -> bool:
    """Whether its composite went on after this part had failed: to its join, its fallback, or a way it chose."""
    match plan.at(parent).node:
        case Joining():
            return f"{parent}/join" in undone and path != f"{parent}/join"
        case Stage():
            return f"{parent}/else" in undone and path != f"{parent}/else"
        case Route(choices=choices):
            return path == f"{parent}/by" and any(f"{parent}/{name}" in undone for name in choices)
    return False
