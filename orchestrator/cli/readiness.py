"""Waits until the workers of a starting stack are there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.output import took

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.local.stack import Stack

_PATIENCE = 90.0  # seconds until every pool must have a worker
_CRASHES = 3  # starts of one process after which waiting is vain


def await_pools(client: Client, stack: Stack, *, look_at: str) -> None:
    """Return when every pool has a living worker, telling how many are there on the way.

    Raises `Unavailable`, pointing to `look_at`, when workers crash again and again or take too long.
    """
    from schemas.errors import Unavailable

    began, told = time.monotonic(), -1
    while True:
        alive = {pool.agent for pool in client.pools() if pool.workers}
        missing = [agent for agent in stack.pools if agent not in alive]
        waited = time.monotonic() - began
        if len(missing) != told:
            told = len(missing)
            typer.echo(
                f"  {len(stack.pools) - told} of {len(stack.pools)} pools have a worker ({took(waited)})"
            )
        if not missing:
            return
        crashed = [one.name for one in stack.supervisor.statuses() if one.starts >= _CRASHES]
        if crashed or waited > _PATIENCE:
            why = (
                f"these end again and again: {', '.join(crashed)}"
                if crashed
                else f"{waited:.0f} s have passed"
            )
            raise Unavailable(
                f"No worker came up for {', '.join(missing)}: {why}.",
                next_step=f"read {look_at}",
            )
        time.sleep(0.2)
