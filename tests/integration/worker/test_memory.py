"""Agents in real processes, one of which is killed, remember once and find what was remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agents.mindful import noted
from tests.integration.worker.stack import Stack
from tests.support import eventually

APP = "tests.agents.mindful"


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_workers_that_are_killed_remember_nothing_twice(alone: Stack, tmp_path: Path, pool: str) -> None:
    gate = tmp_path / "gate"
    env = {"BATON_APP": APP, "BATON_LEASE": "1.0", "BATON_HEARTBEAT": "0.2", "TEST_GATE": str(gate)}
    doomed = alone.worker("note_down", concurrency=20, **env)
    run = alone.submit(noted, list(range(12)))
    eventually(lambda: alone.query("SELECT count(*) = 12 FROM memories")[0][0], timeout=30)
    doomed.kill()
    gate.touch()
    alone.worker("note_down", concurrency=20, **env)
    alone.begin("look_up", pool=pool, concurrency=1, **env)

    first, *_ = run.result(60)

    assert first == "both: number 7 has gone"
    assert alone.query("SELECT count(*), count(DISTINCT text), count(vector) FROM memories") == [(25, 25, 25)]
    told = alone.query("SELECT kind, count(*) FROM events WHERE kind ~ 'rem|rec' GROUP BY 1 ORDER BY 1")
    assert told == [("step.recalled", 1), ("step.remembered", 25)]
