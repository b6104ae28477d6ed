"""What the pool has done of a step is kept for the task of its message, also when the message came twice."""

from __future__ import annotations

from celery import Celery

from orchestrator.places import Places
from workers.process import WorkerProcess


def test_of_two_deliveries_at_a_time_none_hides_what_the_other_did() -> None:
    process = WorkerProcess(Celery(set_as_current=False), Places("postgresql://", "redis://"))

    process.prepare("run.0", "recorded")
    process.prepare("run.0", "refused")

    assert process.take_prepared("run.1") is None
    taken = [process.take_prepared("run.0") for _ in range(3)]
    assert taken == ["recorded", "refused", None]
