"""Sets a failed run back to where it can go on: what is done stays done."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestrator.engine.advance import WINDOW, Advance
from orchestrator.engine.values import Ready, RunRef
from orchestrator.store import control_queries as sql
from orchestrator.store.connect import Conn
from schemas.workflows import Joining, Leaf


def reopen(conn: Conn, run: RunRef) -> list[Ready]:
    """Reopen the failed and skipped steps between the run and its end; those that may now be sent.

    Below a step that is done, a failed branch was a gap and stays one. A fan-out's branches come back as they first
    came, no more than its `parallel` at a time. A composite that never had parts is entered again.
    """
    rows = conn.execute(sql.SELECT_UNDONE, {"run": run.id}).fetchall()
    undone = {path for path, *_ in rows}
    advance = Advance(conn)
    paths: list[str] = []
    states: list[str] = []
    dues: list[float | None] = []
    entries: list[tuple[str, str]] = []
    started: Counter[str] = Counter()
    for path, parent, state, ref, has_children in rows:
        if state not in ("failed", "skipped") or not _reaches_root(parent, undone):
            continue
        node: Any = run.plan.at(path).node
        started[parent] += 1
        waits = started[parent] > _window(run, parent)
        paths.append(path)
        states.append("pending" if waits else "ready" if isinstance(node, Leaf) else "open")
        dues.append(None if waits else getattr(node, "within", None))
        if not waits and (isinstance(node, Leaf) or not has_children):
            entries.append((path, ref or f"in:{path}"))
    conn.execute(sql.REOPEN_STEPS, {"run": run.id, "paths": paths, "states": states, "dues": dues})
    for path, ref in entries:
        advance.enter(run, path, ref)
    advance.settle()
    return advance.ready


def _window(run: RunRef, parent: str) -> int:
    node = run.plan.at(parent).node if parent else None
    return (node.parallel or WINDOW) if isinstance(node, Joining) else 1


def _reaches_root(parent: str, undone: set[str]) -> bool:
    """Whether no enclosing step is done."""
    while parent:
        if parent not in undone:
            return False
        parent = parent.rpartition("/")[0]
    return True
