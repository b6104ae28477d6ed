"""Holds the steps of a run and of what it waits for, and frees them, for those who have the run to themselves."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from orchestrator.engine.child_runs import below
from orchestrator.engine.plans import Plans
from orchestrator.engine.values import Ready, RunRef
from orchestrator.store import child_queries
from orchestrator.store import control_queries as sql
from orchestrator.store.connect import Conn


def pause_run(conn: Conn, run_id: UUID, reason: str) -> bool:
    """Pause a run that is queued or running, with what it waits for; False for any other."""
    inner = [one.id for one in below(conn, [(run_id, "")])]
    runs = {"runs": [run_id, *inner]}
    conn.execute(sql.HOLD_STEPS, runs)
    conn.execute(sql.STOP_CLOCKS, runs)
    reasons = [reason, *[f"run {run_id} is paused: {reason}"] * len(inner)]
    return (run_id,) in conn.execute(sql.PAUSE_RUNS, runs | {"reasons": reasons}).fetchall()


def unpause_run(conn: Conn, plans: Plans, run: RunRef) -> list[Ready]:
    """Let a paused run go on, with what was paused together with it: the steps that may be sent."""
    live = {run.id: replace(run, paused=False)}
    for one in below(conn, [(run.id, "")]):
        if one.paused_together:
            live[one.id] = RunRef(one.id, plans.load(one.definition, conn), one.priority)
    runs = {"runs": list(live)}
    conn.execute(sql.START_CLOCKS, runs)
    freed = conn.execute(sql.FREE_STEPS, runs).fetchall()
    conn.execute(sql.UNPAUSE_RUNS, runs)
    return [Ready(live[run_id], path, agent) for run_id, path, agent, is_due in freed if is_due]


def join_pause(conn: Conn, run_id: UUID) -> None:
    """Let a paused run, with what was paused together with it, be paused as long as the run that waits for it."""
    inner = [one.id for one in below(conn, [(run_id, "")]) if one.paused_together]
    conn.execute(child_queries.PAUSE_WITH_PARENT, {"run": run_id, "runs": [run_id, *inner]})
