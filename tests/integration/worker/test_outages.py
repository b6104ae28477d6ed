"""Servers that go away and come back: workers wait, say so once, lose nothing, and consume again by themselves."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest

from orchestrator.client import RunHandle
from orchestrator.local.redis import redis_server
from schemas.errors import BatonError
from tests.agents import arithmetic, misbehaving
from tests.chaos.arena import Arena, Pool, Servers, Worker, ready
from tests.support import Processes, eventually

AGENTS = (arithmetic.increment, arithmetic.double, misbehaving.gated)
APP = "tests.agents.arithmetic,tests.agents.misbehaving"
SOON = 10.0
"""Seconds after a server is back in which new work must be done."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, session_dir: Path) -> Iterator[Servers]:
    folder = session_dir / "outages"
    folder.mkdir(mode=0o711)
    made = Servers(folder)
    yield made
    made.stop()


class Fleet(NamedTuple):
    """Workers of both kinds, which reach their servers through proxies."""

    arena: Arena
    workers: list[Worker]


@pytest.fixture(scope="module")
def fleet(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    arena = Arena(servers, Processes(tmp_path_factory.mktemp("outages")), app=APP)
    pools = [
        Pool("threads", AGENTS, concurrency=8),
        Pool("prefork", AGENTS, kind="prefork", concurrency=2),
    ]
    workers = [arena.begin(pool) for pool in pools]
    for worker in workers:
        ready(worker)
    yield Fleet(arena, workers)
    arena.close()


# --- outages, each of which is over when the function returns ---------------------------------------------


def postgres_restarts(arena: Arena) -> None:
    arena.servers.restart_postgres()


def postgres_crashes(arena: Arena) -> None:
    arena.servers.restart_postgres(immediately=True)


def postgres_is_away(arena: Arena) -> None:
    """For longer than a lease."""
    arena.servers.postgres.stop()
    lasts(5)
    arena.servers.postgres.start()


def backends_are_ended(arena: Arena) -> None:
    with psycopg.connect(arena.servers.postgres.url_of("postgres"), autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname IS NOT NULL AND pid <> pg_backend_pid()"
        )


def postgres_has_no_connection_left(arena: Arena, seconds: float = 5) -> None:
    """Others have taken all that it gives, again and again those of the workers too."""
    url = arena.servers.postgres.url_of("postgres")
    with ExitStack() as taken:
        admin = taken.enter_context(psycopg.connect(url, autocommit=True))
        until = time.monotonic() + seconds

        def take_all() -> bool:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname <> 'postgres'"
            )
            with suppress(psycopg.OperationalError):
                while True:
                    taken.enter_context(psycopg.connect(url))
            return time.monotonic() > until

        eventually(take_all, timeout=seconds + 10, every=0.1)


def redis_restarts(arena: Arena) -> None:
    arena.servers.restart_redis()


def redis_is_away(arena: Arena) -> None:
    redis, url = arena.servers.redis, urlsplit(arena.servers.redis.url)
    redis.stop()
    lasts(5)
    assert url.port is not None
    assert url.password is not None
    redis._start_at(redis_server(), url.port, url.password)


def redis_is_wiped(arena: Arena) -> None:
    arena.flush()


def redis_is_frozen(arena: Arena, seconds: float = 12) -> None:
    process = arena.servers.redis._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    lasts(seconds)
    process.send_signal(signal.SIGCONT)


def redis_is_cut_off(arena: Arena, seconds: float = 60) -> None:
    """A network that loses everything, and the connections with it."""
    arena.redis_way.stall()
    lasts(seconds)
    arena.redis_way.drop()
    arena.redis_way.flow()


def postgres_is_cut_off(arena: Arena, seconds: float = 60) -> None:
    arena.postgres_way.stall()
    lasts(seconds)
    arena.postgres_way.drop()
    arena.postgres_way.flow()


def lasts(seconds: float) -> None:
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until, timeout=seconds + 10)


LONG = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "outage",
    [
        postgres_restarts,
        postgres_crashes,
        postgres_is_away,
        backends_are_ended,
        postgres_has_no_connection_left,
        redis_restarts,
        redis_is_away,
        redis_is_wiped,
        redis_is_frozen,
        pytest.param(redis_is_cut_off, marks=LONG),
        pytest.param(postgres_is_cut_off, marks=LONG),
    ],
)
def test_workers_wait_for_a_server_and_consume_again(
    fleet: Fleet, outage: Callable[[Arena], None], tmp_path: Path
) -> None:
    # Given work that comes in all the time, and a step that is under way in each worker
    arena = fleet.arena
    gates = [tmp_path / "one", tmp_path / "two"]
    held = [arena.client.submit(misbehaving.gate, str(gate)) for gate in gates]
    for gate in gates:
        eventually(gate.with_suffix(".pids").exists, timeout=20)
    seen = {worker.name: len(worker.process.text()) for worker in fleet.workers}
    lost = losses(arena)

    # When a server goes away and comes back
    with steady(arena) as runs:
        eventually(lambda: runs and runs[0].view().finished_at, timeout=20)
        outage(arena)
        back = time.monotonic()

        # Then a new run is soon done, and then all the others
        assert probe(arena) == 11
        took = time.monotonic() - back
    for run in runs:
        assert run.result(30) == 11
    print(f"{outage.__name__}: a new run had ended after {took:.1f} s, {len(runs)} others besides")
    assert took < SOON
    # no step was taken from a worker that lived all the time
    for gate in gates:
        gate.touch()
    assert [run.result(20) for run in held] == [2, 2]
    assert losses(arena) == lost
    # and each process has said it once, and once that it was over
    for worker in fleet.workers:
        assert worker.process.alive
        counts = said(worker.process.text()[seen[worker.name] :])
        print(worker.name, counts)
        assert all(away <= 1 and again <= 1 for away, again in counts.values())


def losses(arena: Arena) -> int:
    return int(arena.one("SELECT count(*) FROM events WHERE kind IN ('step.lost', 'step.released')"))


@contextmanager
def steady(arena: Arena) -> Iterator[list[RunHandle]]:
    """A run now and then, submitted as by a program that tries again."""
    ended, runs = threading.Event(), list[RunHandle]()

    def submit() -> None:
        while not ended.wait(0.3):
            try:
                runs.append(arena.client.submit(arithmetic.line, 1))
            except BatonError:
                continue

    with ThreadPoolExecutor(1) as producer:
        producing = producer.submit(submit)
        try:
            yield runs
        finally:
            ended.set()
            producing.result(60)


def probe(arena: Arena) -> object:
    """The output of a new run, submitted as soon as anyone lets us."""

    def submitted() -> RunHandle:
        try:
            return arena.client.submit(arithmetic.line, 1)
        except BatonError as error:
            raise AssertionError from error

    return eventually(submitted, timeout=30).result(30)


_LINE = re.compile(r"^\[[^]]*: (?P<level>[A-Z]+)/(?P<process>[^]]+)\] (?P<text>.*)$")


def said(text: str) -> dict[str, tuple[int, int]]:
    """How often each process said that a server is away, and back; it must not have complained of anything else."""
    counts: dict[str, tuple[int, int]] = {}
    for line in filter(None, text.splitlines()):
        found = _LINE.match(line)
        assert found is not None, text
        if found["level"] in ("INFO", "DEBUG"):
            continue
        away, again = counts.get(found["process"], (0, 0))
        away += "does not answer, waiting for it" in found["text"]
        again += "answers again" in found["text"]
        if (away, again) == counts.get(found["process"], (0, 0)):
            assert "had lost its memory" in found["text"], text
        counts[found["process"]] = (away, again)
    return counts
