"""Where chaos happens: servers of its own, workers that reach them through proxies, and a client."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import psycopg
import redis

from orchestrator.client import Client
from orchestrator.local.postgres import Postgres
from orchestrator.local.redis import Redis, redis_server
from orchestrator.store.schema import upgrade
from tests.chaos import shapes
from tests.chaos.ledger import ADDRESS, NODE, Ledger
from tests.chaos.proxy import Proxy
from tests.support import Process, Processes, eventually
from workers.agent import Agent

APP = "tests.chaos.shapes"
QUICK = ("--without-gossip", "--without-mingle")


class Servers:
    """A Postgres and a Redis of our own, which may be restarted, and the ledger, which may not."""

    def __init__(self, folder: Path) -> None:
        for name in ("broker", "ledger"):
            (folder / name).mkdir()
        self.postgres = Postgres(folder)
        self.redis = Redis(folder / "broker")
        self._ledger = Redis(folder / "ledger")
        self.postgres.start()
        self.redis.start()
        self._ledger.start()
        self.ledger = Ledger(self._ledger.url)

    def restart_postgres(self, *, immediately: bool = False) -> None:
        """End it (with `immediately` as a crash would) and start it again; return when it answers."""
        process = self.postgres._process
        assert process is not None
        if immediately:
            process.send_signal(signal.SIGQUIT)
            process.wait(20)
        self.postgres.stop()
        self.postgres.start()

    def restart_redis(self) -> None:
        """Empty, at the same port and with the same password."""
        url = urlsplit(self.redis.url)
        port, password = url.port, url.password
        assert port is not None
        assert password is not None
        self.redis.stop()
        self.redis._start_at(redis_server(), port, password)
        eventually(lambda: self.redis._comes_up(port, password, time.monotonic() + 1))

    def stop(self) -> None:
        self.ledger.close()
        self._ledger.stop()
        self.redis.stop()
        self.postgres.stop()
        self.postgres.erase()


@dataclass(frozen=True)
class Pool:
    """Workers that serve the same agents in the same way."""

    name: str
    agents: Sequence[Agent]
    kind: str = "threads"
    concurrency: int = 16
    size: int = 1
    """Workers of it that live at a time."""


POOLS = (
    Pool("threads", shapes.THREADED, size=2),
    Pool("prefork", shapes.FORKED, kind="prefork", concurrency=2),
)


@dataclass(eq=False)
class Worker:
    """One worker process and its node name."""

    name: str
    pool: Pool
    process: Process

    @property
    def ready(self) -> bool:
        return self.process.alive and " ready." in self.process.text()

    def signal(self, number: signal.Signals) -> None:
        """Send it to the worker and its children."""
        os.killpg(self.process.pid, number)

    def kill_alone(self) -> None:
        """SIGKILL the worker's main process; its children have to see to themselves."""
        self.process.signal(signal.SIGKILL)
        self.process.wait(10)

    def pids(self) -> frozenset[int]:
        """Its main process and its children."""
        return frozenset({self.process.pid, *(child.pid for child in self.children())})

    def children(self) -> list[psutil.Process]:
        """The processes of a prefork pool."""
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []


class Arena:
    """Servers with a fresh database, workers behind proxies, and a client that also goes through them."""

    def __init__(
        self, servers: Servers, processes: Processes, *, app: str = APP, env: Mapping[str, str] | None = None
    ) -> None:
        self.servers = servers
        self.processes = processes
        # Random kills may hit one step again and again, which would set it aside and pause its run.
        self._env = {"BATON_APP": app, "BATON_LOSS_LIMIT": "1000", **(env or {})}
        self._number = 0
        self._database = f"chaos_{time.time_ns()}"
        with psycopg.connect(servers.postgres.url_of("postgres"), autocommit=True) as conn:
            conn.execute(f'CREATE DATABASE "{self._database}"')
        self.direct_url = servers.postgres.url_of(self._database)
        upgrade(self.direct_url)
        self.ledger = servers.ledger
        self.ledger.clear()
        self.flush()
        self.postgres_way = Proxy(lambda: str(servers.postgres.sockets / ".s.PGSQL.5432"))
        broker = urlsplit(servers.redis.url)
        self.redis_way = Proxy(lambda: ("127.0.0.1", broker.port or 0))
        self.database_url = (
            f"postgresql://baton@127.0.0.1:{self.postgres_way.port}/{self._database}?sslmode=disable"
        )
        self.broker_url = f"redis://:{broker.password}@127.0.0.1:{self.redis_way.port}/0"
        self.client = Client(self.database_url, self.broker_url)
        self.reader = Client(self.direct_url, servers.redis.url)

    @property
    def env(self) -> dict[str, str]:
        """The environment of every worker."""
        return {
            "BATON_DATABASE_URL": self.database_url,
            "BATON_BROKER_URL": self.broker_url,
            ADDRESS: self.ledger.url,
            "PYTHONWARNINGS": "ignore",
            **self._env,
        }

    def begin(self, pool: Pool, **env: str) -> Worker:
        """Start a worker; it may not be ready yet."""
        self._number += 1
        name = f"{pool.name}{self._number}@localhost"
        queues = ",".join(agent.spec.queue for agent in pool.agents)
        options = ("-P", pool.kind, "-c", str(pool.concurrency), "-n", name, *QUICK)
        process = self.processes.worker(
            "-Q", queues, *options, name=name, env={**self.env, NODE: name, **env}
        )
        return Worker(name, pool, process)

    def worker(self, pool: Pool, **env: str) -> Worker:
        """Start a worker and wait until it consumes."""
        return ready(self.begin(pool, **env))

    def send_again(self, run: UUID, path: str) -> None:
        """Put the message of a step that exists into its queue, whatever has become of it."""
        with self.reader._pool.connection() as conn:
            self.reader._dispatcher.send(self.reader._engine.located(conn, [(run, path)]))

    def query(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        """Ask Postgres, past the proxy."""
        with psycopg.connect(self.direct_url, autocommit=True) as conn:
            return conn.execute(statement, values or None).fetchall()

    def one(self, statement: Any, *values: Any) -> Any:
        """The one value that a statement gives."""
        return self.query(statement, *values)[0][0]

    def broker(self) -> redis.Redis:
        """Redis, past the proxy."""
        return redis.Redis.from_url(self.servers.redis.url)

    def flush(self) -> None:
        """Wipe Redis."""
        with self.broker() as client:
            client.flushall()

    def close(self) -> None:
        """End the workers and remove the database; the servers stay."""
        self.client.close()
        self.reader.close()
        self.processes.end_all()
        self.postgres_way.close()
        self.redis_way.close()
        with psycopg.connect(self.servers.postgres.url_of("postgres"), autocommit=True) as conn:
            conn.execute(f'DROP DATABASE "{self._database}" WITH (FORCE)')


def ready(worker: Worker) -> Worker:
    """The worker, once it consumes."""

    def consumes() -> None:
        assert worker.process.alive, worker.process.text()
        assert worker.ready, worker.process.text()

    eventually(consumes, timeout=60)
    return worker
