"""Engines with one promise taken out each, and who is to notice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from orchestrator.engine import Engine, advance, intake, run_locks
from orchestrator.engine.advance import Advance
from orchestrator.store import (
    advance_queries,
    attempt_queries,
    control_queries,
    lock_queries,
    loss_queries,
    recovery_queries,
    spending_queries,
    timer_queries,
)
from orchestrator.store.connect import Conn
from tests.chaos.engine.stage import Stage

Break = Callable[[pytest.MonkeyPatch], None]


def without(module: ModuleType, statement: str, part: str, instead: str = "") -> Break:
    """Take a part out of a statement."""

    def take_out(patch: pytest.MonkeyPatch) -> None:
        text = getattr(module, statement)
        assert part in text, f"{statement} has no {part!r}"
        patch.setattr(module, statement, text.replace(part, instead))

    return take_out


def both(*breaks: Break) -> Break:
    def take_out(patch: pytest.MonkeyPatch) -> None:
        for one in breaks:
            one(patch)

    return take_out


BY_THE_MODEL: dict[str, Break] = {
    "no fence: any attempt is heard": without(attempt_queries, "ACCEPT", " AND s.attempt = g.attempt"),
    "an outcome is heard twice": without(attempt_queries, "ACCEPT", " AND s.state || '' = 'running'"),
    "steps of a paused run are claimed": both(
        without(attempt_queries, "CLAIM", " AND s.ready_at IS NOT NULL"),
        without(attempt_queries, "CLAIM", " AND runs.state IN ('queued', 'running')"),
    ),
    "retries are not counted": without(
        attempt_queries,
        "ACCEPT",
        "retries = s.retries + (g.retry_in IS NOT NULL AND g.limited IS NULL)::int",
        "retries = s.retries",
    ),
    "losses are not counted": without(loss_queries, "FREE_STEPS", "losses = s.losses + %(lost)s::bool::int,"),
    "what is given back counts as lost": without(loss_queries, "FREE_STEPS", "%(lost)s::bool::int", "1"),
    "steps of living workers are taken": without(
        loss_queries, "SELECT_HELD_BY_DEAD", "w.id IS NULL OR", "true OR"
    ),
    "what a dead worker held is not taken back": without(
        loss_queries, "SELECT_HELD_BY_DEAD", "LIMIT %(most)s", "LIMIT 0"
    ),
    "living workers are buried": without(
        recovery_queries, "BURY_WORKERS", " AND lease_until < clock_timestamp()"
    ),
    "messages are sent again for what runs": without(
        recovery_queries, "TAKE_STRANDED", "c.state = 'ready'", "c.state IN ('ready', 'running')"
    ),
    "what was lost is not sent again": without(
        recovery_queries, "TAKE_STRANDED", "LIMIT %(most)s", "LIMIT 0"
    ),
    "a cancelled run keeps its running steps": without(control_queries, "CANCEL_STEPS", "'running', "),
    "more branches start than allowed": without(advance_queries, "PROMOTE", "LIMIT %(count)s"),
    "a join opens with too few branches": without(
        advance_queries, "TALLY", "count(*) FILTER (WHERE state = 'done') AS done", "count(*) AS done"
    ),
    "deadlines of fan-outs are forgotten by a pause": without(
        control_queries, "STOP_CLOCKS", "time_left = due_at - now(), "
    ),
    "deadlines never fire": without(timer_queries, "SELECT_LATE", "LIMIT %(most)s", "LIMIT 0"),
}
"""Each makes the state machine find a difference to its model."""

OF_BUDGETS: dict[str, Break] = {
    "a run's own budget stops nothing": without(attempt_queries, "CLAIM", "c.accounts IS NOT NULL OR "),
    "a budget is told of as often as somebody looks": both(
        without(spending_queries, "SELECT_NEARLY_SPENT", "AND n.level = l.level", "AND false"),
        without(spending_queries, "WARN", " JOIN warned USING (account)"),
    ),
}
"""As well, where it plays runs with a budget only."""


# --- in Python --------------------------------------------------------------------------------------------


@contextmanager
def _no_transaction(conn: Conn, locks: Iterable[str]) -> Iterator[None]:
    """Every statement commits by itself."""
    yield


def _two_commits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run_locks, "_transaction", _no_transaction)


def _no_keys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(intake, "take_keys", lambda conn, plan, submissions: {})


def _forgotten_joins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Engine, "settle_forgotten", lambda self: [])


def _sent_too_early(stage: Stage) -> Break:
    def take_out(patch: pytest.MonkeyPatch) -> None:
        settle = Advance.settle

        def settled(self: Advance, *, wait: bool = False) -> None:
            settle(self, wait=wait)
            stage.send(self.ready)

        patch.setattr(advance.Advance, "settle", settled)

    return take_out


BY_FAULTS: dict[str, tuple[Callable[[Stage], Break], str]] = {
    "an outcome and what follows from it commit apart": (
        lambda stage: _two_commits,
        "record the first stage",
    ),
    "a submission that is repeated makes another run": (lambda stage: _no_keys, "submit a pipeline"),
    "nobody looks again at a join": (lambda stage: _forgotten_joins, "record one of the last branches"),
    "messages are sent before the commit": (_sent_too_early, "record the first stage"),
}
"""Each with the scenario in which a fault, or the lack of one, brings it to light."""

BY_INTERLEAVINGS: dict[str, tuple[Break, str]] = {
    "joins are looked at without their lock": (
        without(
            lock_queries,
            "TRY_JOINS",
            "pg_try_advisory_xact_lock(7002, hashtext(run_id::text || parent))",
            "true",
        ),
        "two last branches",
    ),
    "a cancel does not have the run to itself": (
        lambda patch: patch.setattr(lock_queries, "OWN_RUN", lock_queries.SHARE_RUN),
        "an outcome and a cancel",
    ),
}
"""Each with the pair of verbs whose meeting shows it."""
