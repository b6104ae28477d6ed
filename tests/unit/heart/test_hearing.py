"""Who is deaf: only a worker that has nothing in hand and takes nothing although messages wait for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kombu.utils.limits import TokenBucket

from orchestrator.outages import BROKER
from workers.hearing import DEAF, STUCK, TRIES, Hearing


class Worker:
    """What Hearing sees of one, and what it does to it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.did: list[str] = []
        self.buckets: dict[str, Any] = {"agent.a": None}
        consumer = SimpleNamespace(task_buckets=self.buckets, call_soon=lambda _: self.did.append("anew"))
        drain = SimpleNamespace(insist=lambda: self.did.append("end"))
        process: Any = SimpleNamespace(leaving=False, drain=drain)
        self.hearing = Hearing(process, consumer, ["agent.a"], clock=lambda: self.now)

    def listen(self, seconds: float, *unheard: str) -> None:
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            self.hearing.listen(unheard)


@pytest.fixture
def worker() -> Worker:
    BROKER.over()  # whatever other tests did to theirs
    return Worker()


def test_one_that_takes_nothing_connects_anew_and_at_last_ends(worker: Worker) -> None:
    worker.listen(DEAF, "agent.a")
    assert worker.did == []
    worker.listen((DEAF + 0.5) * (TRIES + 1), "agent.a")
    assert worker.did == ["anew"] * TRIES + ["end"]


def test_messages_of_others_are_none_of_its_business(worker: Worker) -> None:
    worker.listen(60, "agent.b")
    assert worker.did == []


def test_one_whose_messages_wait_for_their_rate_is_not_deaf(worker: Worker) -> None:
    worker.buckets["agent.a"] = TokenBucket(1 / 60)
    worker.buckets["agent.a"].add("a request")

    worker.listen(60, "agent.a")

    assert worker.did == []


def test_a_loop_that_stands_still_ends_the_worker_but_a_frozen_process_does_not(worker: Worker) -> None:
    worker.now += 1_000
    worker.hearing.turned(turning=False, every=0.5)
    assert worker.did == []
    for _ in range(int(STUCK * 2)):
        worker.hearing.turned(turning=False, every=0.5)
    assert worker.did == ["end"]
