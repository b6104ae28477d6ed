"""Sets a failed run back to where it can go on: what is done stays done."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.engine.advance import Advance
from orchestrator.engine.values import Ready, RunRef
from orchestrator.store import control_queries as sql
from orchestrator.store.connect import Conn


def reopen(conn: Conn, run: RunRef) -> list[Ready]:
    """Reopen the failed and skipped steps between the run and its end; those that may now be sent.

    A gap that a join has accepted stays one, as does whatever failed below a step that is done. All others wait for
    their turn, and come back as they first came: no more of a fan-out than its `parallel` at a time.
    """
    rows = conn.execute(sql.SELECT_UNDONE, {"run": run.id}).fetchall()
    conn.execute(
        sql.REOPEN_STEPS, {"run": run.id, "paths": unsettled([(path, parent) for path, parent, _ in rows])}
    )
    advance = Advance(conn)
    advance.wake(run, "")
    advance.settle()
    return advance.ready


def unsettled(undone: Sequence[tuple[str, str]]) -> list[str]:
    """Of all steps of a run that are not done, as (path, parent): those whose outcome nothing has used yet."""
    paths = {path for path, _ in undone}
    joined = {parent for path, parent in undone if path == f"{parent}/join"}
    settled: dict[str, bool] = {"": False}

    def is_settled(path: str) -> bool:
        if path not in settled:
            parent = path.rpartition("/")[0]
            gap = parent in joined and path != f"{parent}/join"
            settled[path] = path not in paths or gap or is_settled(parent)
        return settled[path]

    return [path for path, _ in undone if not is_settled(path)]
