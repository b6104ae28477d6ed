"""Subscriptions in the database: deployed from an app, listed, paused, removed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from psycopg.errors import ForeignKeyViolation

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.plan import Plan
from orchestrator.definitions.reactions import Reaction
from orchestrator.engine.plans import Plans
from orchestrator.store import subscription_queries as sql
from orchestrator.store.connect import Pool
from orchestrator.store.refusals import translated
from schemas.errors import NotFound
from schemas.subscriptions import SubscriptionView


class Subscriptions:
    """All subscriptions of one database."""

    def __init__(self, pool: Pool, plans: Plans) -> None:
        self._pool = pool
        self._plans = plans

    def deploy(self, reactions: Iterable[Reaction], *, newest: bool = True) -> list[str]:
        """Make these what the database reacts with; the names of those that are new or have changed.

        Without `newest`, as a worker does that starts, one that was deployed before stays as old as it is: a worker of
        an older version must not bring it back. Nothing that is not among `reactions` is touched. Raises `Unavailable`.
        """
        with translated():
            return [one.name for one in reactions if self._deployed(one, newest=newest)]

    def all(self) -> list[SubscriptionView]:
        """Every subscription, by name."""
        return self._read(None)

    def get(self, name: str) -> SubscriptionView:
        """Raises `NotFound`."""
        found = self._read(name)
        if not found:
            raise _unknown(name)
        return found[0]

    def pause(self, name: str) -> None:
        """Let events pass it by until it is resumed. Raises `NotFound`."""
        self._change(sql.SET_ENABLED, {"name": name, "enabled": False})

    def resume(self, name: str) -> None:
        """Let it react to what comes from now on. Raises `NotFound`."""
        self._change(sql.SET_ENABLED, {"name": name, "enabled": True})

    def remove(self, name: str) -> None:
        """Forget it, until an app that holds it is deployed; its runs go on. Raises `NotFound`."""
        self._change(sql.RETIRE_SUBSCRIPTION, {"name": name})

    def _deployed(self, reaction: Reaction, *, newest: bool) -> bool:
        plan = compile_workflow(reaction.workflow)
        while True:
            self._plans.save(plan)
            try:
                return self._store(reaction, plan, newest=newest)
            except ForeignKeyViolation:
                # The definition was pruned since this process had stored it.
                self._plans.forget(plan.id)

    def _store(self, reaction: Reaction, plan: Plan, *, newest: bool) -> bool:
        digest = reaction.subscription.digest(plan.id)
        with self._pool.connection() as conn, conn.transaction():
            conn.execute(sql.LOCK_SUBSCRIPTION, {"name": reaction.name})
            versions = conn.execute(sql.SELECT_VERSIONS, {"name": reaction.name}).fetchall()
            if any(known == digest and (current or not newest) for _, known, _, current in versions):
                return False
            conn.execute(sql.REPLACE_SUBSCRIPTION, {"name": reaction.name})
            keys = {
                "name": reaction.name,
                "version": max((version for version, *_ in versions), default=0) + 1,
                "digest": digest,
                "type": reaction.subscription.type,
                "definition": plan.id,
                "body": reaction.subscription.model_dump_json(),
                "enabled": all(enabled for _, _, enabled, current in versions if current),
            }
            conn.execute(sql.INSERT_SUBSCRIPTION, keys)
        return True

    def _read(self, name: str | None) -> list[SubscriptionView]:
        with translated(), self._pool.connection() as conn:
            rows = conn.execute(sql.SELECT_SUBSCRIPTIONS, {"name": name}).fetchall()
        names = ("version", "enabled", "deployed_at", "started", "held", "failed")
        return [
            SubscriptionView.model_validate(json.loads(body) | dict(zip(names, rest, strict=True)))
            for body, *rest in rows
        ]

    def _change(self, statement: Any, keys: dict[str, Any]) -> None:
        with translated(), self._pool.connection() as conn:
            if conn.execute(statement, keys).fetchone() is None:
                raise _unknown(keys["name"])


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no subscription {name!r}", next_step="baton subscriptions ls")
