"""Holds the steps of a run, and frees them; for transactions that have the run to themselves."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from orchestrator.engine.values import Ready, RunRef
from orchestrator.store import control_queries as sql
from orchestrator.store.connect import Conn


def pause_run(conn: Conn, run_id: UUID, reason: str) -> bool:
    """Pause a run that is queued or running; False for any other."""
    keys = {"run": run_id, "reason": reason}
    conn.execute(sql.HOLD_STEPS, keys)
    conn.execute(sql.STOP_CLOCKS, keys)
    return conn.execute(sql.PAUSE_RUN, keys).fetchone() is not None


def unpause_run(conn: Conn, run: RunRef) -> list[Ready]:
    """Let a paused run go on: the steps that may be sent."""
    keys = {"run": run.id}
    conn.execute(sql.START_CLOCKS, keys)
    freed = conn.execute(sql.FREE_STEPS, keys).fetchall()
    conn.execute(sql.UNPAUSE_RUN, keys)
    live = replace(run, paused=False)
    return [Ready(live, path, agent) for path, agent, is_due in freed if is_due]
