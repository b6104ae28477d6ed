"""What recovery finds, how soon, and what it leaves alone: with real workers and one disturbance each."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest
import redis

from orchestrator.messaging.amnesia import LONGEST, MARK, TURN, BrokerMemory
from tests.agents.accountable import linger, muse, ponder, step
from tests.chaos import broken
from tests.chaos.arena import Arena, Pool, Servers
from tests.chaos.checker import Accepted, Strike, check, gather
from tests.chaos.shapes import Shape, alone, late, musing
from tests.support import eventually
from workers import heart
from workers.heart import Witness

SOON = 5.0
"""Seconds within which the steps of a worker that is gone run elsewhere."""

SLOW = Pool("slow", (step, linger, ponder, muse), concurrency=4)
LATE = Shape(late, lambda n: n + 1)
ALONE = Shape(alone, lambda n: n + 1)


def submitted(arena: Arena, shape: Shape, value: Any = 1) -> Accepted:
    return Accepted(arena.client.submit(shape.workflow, value).id, shape, value)


def runs(arena: Arena, run: UUID, path: str) -> str:
    """The node name of the worker that runs this step, once one does."""

    def held() -> str:
        rows = arena.query(
            "SELECT w.name FROM steps s JOIN workers w ON w.id = s.worker_id"
            " WHERE s.run_id = %s AND s.path = %s AND s.state = 'running'",
            run,
            path,
        )
        assert rows
        return str(rows[0][0])

    return eventually(held, timeout=20)


def attempts(arena: Arena, run: UUID, path: str) -> tuple[int, int]:
    """Attempt and losses of a step."""
    ((attempt, losses),) = arena.query(
        "SELECT attempt, losses FROM steps WHERE run_id = %s AND path = %s", run, path
    )
    return attempt, losses


def ended(arena: Arena, *accepted: Accepted, within: float = 20.0, strikes: Sequence[Strike] = ()) -> None:
    """They end with the right output, and no rule is broken; strikes excuse what they cut off."""
    for one in accepted:
        assert arena.reader.result(one.id, within) == one.shape.expected(one.input)
    verdict = check(gather(arena, accepted, strikes))
    assert not verdict.broken, str(verdict)


# --- the dead, and those who seem so ----------------------------------------------------------------------


def test_the_steps_of_a_killed_worker_run_elsewhere_soon(arena: Arena) -> None:
    fleet = {worker.name: worker for worker in (arena.worker(SLOW), arena.worker(SLOW))}
    one = submitted(arena, LATE)
    victim = runs(arena, one.id, "2")

    fleet[victim].process.kill()
    killed = time.monotonic()
    eventually(lambda: runs(arena, one.id, "2") != victim, timeout=SOON)

    print(f"again after {time.monotonic() - killed:.1f} s")
    assert arena.reader.result(one.id, 10) == 2


def test_a_worker_that_was_frozen_finds_its_late_outcome_refused(arena: Arena) -> None:
    # Given a worker that is frozen in the middle of a step
    fleet = {worker.name: worker for worker in (arena.worker(SLOW), arena.worker(SLOW))}
    one = submitted(arena, LATE)
    victim = fleet[runs(arena, one.id, "2")]
    frozen = time.time()
    victim.signal(signal.SIGSTOP)

    # When another one has done it, and it comes back
    assert arena.reader.result(one.id, 15) == 2
    victim.signal(signal.SIGCONT)
    strike = Strike("freeze", frozen, time.time(), (victim.name,), victim.pids())

    # Then it says that it was too late, nothing else has happened, and it works on
    def refused() -> bool:
        text = victim.process.text()
        return "came too late" in text or "its outcome is not wanted" in text

    eventually(refused)
    assert attempts(arena, one.id, "2") == (2, 1)
    kinds = arena.query("SELECT kind FROM events WHERE run_id = %s AND path = '2' ORDER BY id", one.id)
    assert [kind for (kind,) in kinds] == ["step.started", "step.lost", "step.started", "step.done"]
    eventually(lambda: arena.one("SELECT count(*) FROM workers WHERE stopped_at IS NULL") == 2)
    ended(arena, one, submitted(arena, LATE), strikes=[strike])


def test_a_worker_whose_consumer_hangs_is_taken_for_dead(arena: Arena) -> None:
    # Given a worker in the middle of a step whose main thread gets stuck, while its other threads go on
    hanging = arena.worker(SLOW, BATON_APP=broken.APP, **{broken.NAME: "hangs_when_told"})
    one = submitted(arena, Shape(musing, lambda n: n), 60)
    assert runs(arena, one.id, "0") == hanging.name
    other = arena.worker(SLOW)
    hanging.process.signal(signal.SIGUSR2)

    eventually(lambda: runs(arena, one.id, "0") == other.name, timeout=heart.STILL + SOON)


def test_a_slow_and_healthy_step_stays_with_its_worker(arena: Arena) -> None:
    slow_step(arena, 5)


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_a_step_of_a_minute_stays_with_its_worker(arena: Arena) -> None:
    slow_step(arena, 65)


def slow_step(arena: Arena, seconds: int) -> None:
    """A step many times as long as the lease, in threads that compute, beside much other work."""
    lease = {"BATON_LEASE": "1", "BATON_HEARTBEAT": "0.4"}
    arena.worker(SLOW, **lease)
    arena.worker(SLOW, **lease)
    slow = submitted(arena, Shape(musing, lambda n: n), seconds)
    runs(arena, slow.id, "0")
    others = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        others += [submitted(arena, ALONE) for _ in range(20)]
        arena.reader.result(others[-1].id, 30)
    ended(arena, slow, *others)
    assert attempts(arena, slow.id, "0") == (1, 0)
    assert arena.one("SELECT count(*) FROM attempts WHERE state = 'lost'") == 0


def test_a_worker_whose_postgres_is_slow_keeps_its_steps(arena: Arena) -> None:
    arena.postgres_way.delay(0.2)
    arena.worker(SLOW)
    arena.worker(SLOW)
    one = submitted(arena, Shape(musing, lambda n: n), 6)
    ended(arena, one)
    assert attempts(arena, one.id, "0") == (1, 0)


def test_after_an_outage_of_postgres_nobody_is_taken_for_dead(arena: Arena) -> None:
    # Given two workers in the middle of steps
    arena.worker(SLOW)
    arena.worker(SLOW)
    both = [submitted(arena, Shape(musing, lambda n: n), 8) for _ in range(6)]
    for one in both:
        runs(arena, one.id, "0")

    # When Postgres is away for longer than their leases
    arena.servers.postgres.stop()
    gone = time.monotonic()
    eventually(lambda: time.monotonic() - gone > 4, timeout=5)
    arena.servers.postgres.start()

    # Then all of these end where they began
    ended(arena, *both)
    assert {attempts(arena, one.id, "0") for one in both} == {(1, 0)}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(heart.time, "monotonic", lambda: made.now)
    return made


def test_a_witness_that_was_away_trusts_itself_again_after_a_lease(clock: Clock) -> None:
    witness = Witness(lease=3.0)
    assert witness.is_reliable
    for _ in range(4):
        clock.now += 0.5
        witness.beat()
        assert witness.is_reliable
    clock.now += 2.0
    assert not witness.is_reliable
    witness.beat()
    for _ in range(6):
        assert not witness.is_reliable
        clock.now += 0.5
        witness.beat()
    assert witness.is_reliable


# --- messages that are gone, and those that are not -------------------------------------------------------


def test_what_was_committed_and_never_sent_is_sent(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    arena.worker(SLOW)
    monkeypatch.setattr(arena.client._dispatcher, "send", lambda ready: True)
    ended(arena, submitted(arena, ALONE), within=3 + 1 + SOON)


def test_queues_that_are_gone_without_a_trace_are_noticed(arena: Arena) -> None:
    ones = [submitted(arena, ALONE) for _ in range(5)]
    with arena.broker() as client:
        client.delete(*client.keys("agent.*"))
        client.set(MARK, client.info("server")["run_id"])
    arena.worker(SLOW)
    ended(arena, *ones, within=3 + 1 + SOON)


def test_a_live_backlog_is_not_sent_again(arena: Arena) -> None:
    backlog(arena, 2_000)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_live_backlog_of_a_hundred_thousand_is_not_sent_again(arena: Arena) -> None:
    backlog(arena, 100_000)


def backlog(arena: Arena, size: int) -> None:
    """Far more steps than the workers have begun in twice the time that recovery has patience for."""
    worker = arena.worker(Pool("slow", (muse,), concurrency=2))
    with arena.broker() as client:
        eventually(lambda: client.exists(MARK))  # without it, all is sent once more, and only then
    for start in range(0, size, 10_000):
        arena.client.submit_many(musing, [1] * min(10_000, size - start))
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > 7, timeout=10, every=0.5)
    assert worker.process.alive
    assert size - 10 < sent(arena) <= size


def sent(arena: Arena) -> int:
    """Messages that lie in the queue, and steps that have been begun: but for a few, all that were sent."""
    with arena.broker() as client:
        lying = sum(client.llen(key) for key in client.keys("agent.muse*"))
    return int(lying) + int(arena.one("SELECT count(*) FROM steps WHERE attempt > 0"))


# --- the memory of the broker -----------------------------------------------------------------------------


@pytest.fixture
def broker(servers: Servers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(servers.redis.url) as client:
        client.flushall()
        yield client


def test_a_mark_says_whether_the_broker_remembers(broker: redis.Redis) -> None:
    mine, other = BrokerMemory(), BrokerMemory()
    assert mine.is_lost(broker)
    assert not other.is_lost(broker)  # it is somebody's turn already
    assert mine.goes_on(broker)
    assert not other.is_restored(broker)
    assert mine.is_restored(broker)
    assert not mine.is_lost(broker)
    assert not other.is_lost(broker)


def test_another_server_with_the_old_data_may_have_lost_the_latest(broker: redis.Redis) -> None:
    broker.set(MARK, "the server that was here before")
    assert BrokerMemory().is_lost(broker)


def test_a_broker_that_forgets_again_meanwhile_has_to_be_restored_anew(broker: redis.Redis) -> None:
    memory = BrokerMemory()
    assert memory.is_lost(broker)
    broker.flushall()
    assert not memory.goes_on(broker)
    assert not memory.is_restored(broker)
    assert memory.is_lost(broker)


def test_the_turn_of_one_that_died_goes_to_another(broker: redis.Redis) -> None:
    assert BrokerMemory().is_lost(broker)
    assert 0 < broker.pttl(TURN) <= LONGEST
    broker.delete(TURN)
    assert BrokerMemory().is_lost(broker)


def test_a_server_that_does_not_tell_its_name_is_marked_all_the_same(broker: redis.Redis) -> None:
    class Silent:
        """A client that may not ask."""

        def __getattr__(self, name: str) -> Any:
            return getattr(broker, name)

        def info(self, section: str) -> Any:
            raise redis.ResponseError("NOPERM")

    memory = BrokerMemory()
    assert memory.is_lost(Silent())
    assert memory.is_restored(Silent())
    assert not memory.is_lost(Silent())
