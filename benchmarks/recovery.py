"""How soon work goes on after a failure, beside plain Celery that acknowledges late.

Some tasks start and wait until they are told to end. What breaks is broken meanwhile, and an outside witness sees when
they start again; of the faults of servers, when those start that lay in the queue.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import redis

from benchmarks import agents, late_celery
from benchmarks.scenarios import POOL, RESTART, WIPE, WORKER, Outages
from benchmarks.sides import Worker
from benchmarks.witness import ADDRESS, Witness
from orchestrator.client import Client
from orchestrator.local.postgres import Postgres
from orchestrator.local.redis import Redis
from orchestrator.store import schema

ROOM = 8
"""Tasks that a worker runs at a time."""

BOOT = 60.0
"""Seconds that workers may need to start."""


@dataclass
class Times:
    """Seconds until tasks started again, and how many never did."""

    seconds: list[float] = field(default_factory=list)
    lost: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        if len(self.seconds) < 2:
            return self.seconds[0]
        return min(statistics.quantiles(self.seconds, n=100)[98], max(self.seconds))


@dataclass(frozen=True)
class Recovered:
    """One kind of failure on both sides; None where a side has no such server."""

    kind: str
    plain: Times | None
    baton: Times


class Breakable(Protocol):
    """A side whose workers and servers may be broken."""

    def begin(self) -> Worker: ...
    def submit(self, tokens: Iterable[str]) -> None: ...
    def wipe(self) -> None: ...


def measure_recovery(outages: Outages, folder: Path) -> list[Recovered]:
    """Break everything on servers of our own."""
    folder.mkdir(mode=0o711)
    with ExitStack() as stack:
        brokers = [_redis(folder / name, stack) for name in ("witness", "baton", "plain")]
        postgres = Postgres(folder / "baton")
        postgres.start()
        stack.callback(postgres.erase)
        stack.callback(postgres.stop)
        witness = Witness(brokers[0].url)
        baton = BatonSide(postgres, brokers[1].url, witness, folder, stack)
        plain = PlainSide(brokers[2].url, witness, folder, outages.visibility)
        return [
            Recovered(
                kind,
                None if kind == RESTART else _rounds(kind, plain, witness, outages),
                _rounds(kind, baton, witness, outages, baton.restart),
            )
            for kind in outages.kinds
        ]


def _redis(folder: Path, stack: ExitStack) -> Redis:
    folder.mkdir(mode=0o711)
    server = Redis(folder)
    server.start()
    stack.callback(server.stop)
    return server


class BatonSide:
    """Baton on a Postgres and a Redis."""

    def __init__(
        self, postgres: Postgres, broker_url: str, witness: Witness, folder: Path, stack: ExitStack
    ) -> None:
        schema.upgrade(postgres.url)
        self._postgres = postgres
        self._broker_url = broker_url
        self._folder = folder
        self._env = {
            "BATON_DATABASE_URL": postgres.url,
            "BATON_BROKER_URL": broker_url,
            "BATON_APP": agents.__name__,
            "BATON_DRAIN_SECONDS": "1",
            ADDRESS: witness.url,
        }
        self._client = stack.enter_context(Client(postgres.url, broker_url))
        self._begun = 0

    def begin(self) -> Worker:
        self._begun += 1
        arguments = ("-c", str(ROOM), "-Q", agents.hold.spec.queue, "-n", f"recovers{self._begun}@%h")
        return Worker("workers.app", arguments, self._env, self._folder / f"recovers{self._begun}.log")

    def submit(self, tokens: Iterable[str]) -> None:
        self._client.submit_many(agents.holding, tokens)

    def wipe(self) -> None:
        _flush(self._broker_url)

    def restart(self) -> None:
        self._postgres.stop()
        self._postgres.start()


class PlainSide:
    """Celery with late acknowledgement on a Redis."""

    def __init__(self, redis_url: str, witness: Witness, folder: Path, visibility: float) -> None:
        self._url = redis_url
        self._folder = folder
        self._env = {
            "BENCHMARK_REDIS": redis_url,
            "BENCHMARK_VISIBILITY": str(visibility),
            ADDRESS: witness.url,
        }
        self._app = late_celery.make_app(redis_url, visibility)
        self._begun = 0

    def begin(self) -> Worker:
        self._begun += 1
        arguments = ("-c", str(ROOM), "-n", f"late{self._begun}@%h")
        return Worker(late_celery.__name__, arguments, self._env, self._folder / f"late{self._begun}.log")

    def submit(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            self._app.send_task(late_celery.hold.name, (token,))

    def wipe(self) -> None:
        _flush(self._url)


def _flush(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushall()


def _rounds(
    kind: str, side: Breakable, witness: Witness, outages: Outages, restart: Callable[[], None] | None = None
) -> Times:
    """Break it again and again; workers live on from one round to the next as far as they may."""
    times, fleet = Times(), Fleet(side, witness)
    try:
        for _ in range(outages.rounds if isinstance(side, BatonSide) else outages.plain_rounds):
            _round(kind, fleet, times, outages, restart)
    finally:
        fleet.stop()
    return times


def _round(
    kind: str, fleet: Fleet, times: Times, outages: Outages, restart: Callable[[], None] | None
) -> None:
    fleet.grow(2 if kind == WORKER else 1)
    fleet.fill()
    if kind in (WORKER, POOL):
        hit = fleet.kill()
        since = time.time()
        if kind == POOL:
            fleet.grow(1)
        fleet.await_again(hit, since, times, outages.patience)
    else:
        waiting = fleet.wait_in_line()
        since = time.time()
        if kind == WIPE:
            fleet.side.wipe()
        elif restart is not None:
            restart()
            since = time.time()  # from when it answers
        fleet.release()
        fleet.await_again(waiting, since, times, outages.queued)
    fleet.release()


class Fleet:
    """The workers of one side, and the tasks that are under way."""

    _rounds = itertools.count(1)

    def __init__(self, side: Breakable, witness: Witness) -> None:
        self.side = side
        self._witness = witness
        self._workers: list[Worker] = []
        self._round = 0
        self._running: set[str] = set()

    def grow(self, size: int) -> None:
        """Start workers until there are as many."""
        while len(self._workers) < size:
            self._workers.append(self.side.begin())

    def stop(self) -> None:
        self.release()
        for worker in self._workers:
            worker.stop()

    def fill(self) -> None:
        """A new round: as many tasks as one worker has room for, all of which have started."""
        self._round = next(Fleet._rounds)
        self._running = self._submit("running", ROOM)
        _until(lambda: len(self._first_starts(self._running)) == ROOM, BOOT)

    def wait_in_line(self) -> set[str]:
        """Further tasks, for which there is no room."""
        return self._submit("waiting", ROOM // 2)

    def kill(self) -> set[str]:
        """SIGKILL the worker that runs most of the tasks; which these are."""
        starts = self._witness.starts(self._running)
        (pid, _), *_ = Counter(start.pid for start in starts).most_common()
        (victim,) = (worker for worker in self._workers if worker.process.pid == pid)
        self._workers.remove(victim)
        victim.kill()
        return {start.token for start in starts if start.pid == pid}

    def release(self) -> None:
        """Let the tasks of this round end."""
        self._witness.release(self._round)

    def await_again(self, tokens: set[str], since: float, times: Times, patience: float) -> None:
        """Wait until these start after `since`, and note how long it took."""
        _until(lambda: len(self._first_starts(tokens, since)) == len(tokens), patience)
        found = self._first_starts(tokens, since)
        times.seconds += [at - since for at in found.values()]
        times.lost += len(tokens) - len(found)

    def _submit(self, what: str, count: int) -> set[str]:
        tokens = [f"{self._round}-{what}{number}" for number in range(count)]
        self.side.submit(tokens)
        return set(tokens)

    def _first_starts(self, tokens: set[str], since: float = 0.0) -> dict[str, float]:
        """When each of these started first after that."""
        found: dict[str, float] = {}
        for start in self._witness.starts(tokens):
            if start.at > since:
                found.setdefault(start.token, start.at)
        return found


def _until(condition: Callable[[], bool], timeout: float) -> None:
    """Wait for it, or as long."""
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
