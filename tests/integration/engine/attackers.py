"""Processes that attack a limit together, and are killed while they do."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from uuid import UUID

from orchestrator.recovery import Recovery
from schemas.limits import Limit
from tests.integration.engine.bench import Bench
from tests.support import eventually

HOLD = 0.02
"""Seconds for which an attacker works on what it was let through with."""


def besiege(
    bench: Bench,
    attack: Callable[..., None],
    url: str,
    run: UUID,
    limits: tuple[Limit, ...],
    *,
    kill: int = 0,
) -> None:
    """Four processes at once; so many of them are killed while they work, and buried.

    `attack` takes the URL, the run, a barrier, the limits and how long to work; it calls itself `attacker-PID`.
    """
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(4)
    them = [spawn.Process(target=attack, args=(url, run, together, limits, HOLD)) for _ in range(4)]
    for one in them:
        one.start()
    recovery = Recovery(bench.engine, bench, patience=0.0)  # type: ignore[arg-type]
    victims = them[:kill]

    def over_all() -> None:
        running = bench.query(
            "SELECT DISTINCT w.name FROM steps s JOIN workers w ON w.id = s.worker_id WHERE s.state = 'running'"
        )
        names = {name for (name,) in running}
        for one in [one for one in victims if f"attacker-{one.pid}" in names]:
            os.kill(one.pid or 0, signal.SIGKILL)
            victims.remove(one)
        recovery.sweep()
        assert not any(one.is_alive() for one in them)

    eventually(over_all, timeout=60)
    assert not victims, "nobody was killed while it worked"
    assert [one.exitcode for one in them[kill:]] == [0] * (4 - kill)
