"""Workers of the test agents, on a database and a broker of their own."""

from __future__ import annotations

from typing import Any

import psycopg
import redis

from orchestrator.client import Client, RunHandle
from schemas.workflows import Workflow
from tests.support import Process, Processes, eventually

APP = ",".join(
    f"tests.agents.{name}"
    for name in ("arithmetic", "asking", "batching", "limited", "misbehaving", "relays")
)
QUICK = ("--without-gossip", "--without-mingle")


class Stack:
    """One database, one broker, any number of workers, and a client."""

    def __init__(self, processes: Processes, database_url: str, broker_url: str) -> None:
        self.processes = processes
        self.database_url = database_url
        self.broker_url = broker_url
        self.client = Client(database_url, broker_url)
        self._started = 0

    @property
    def env(self) -> dict[str, str]:
        return {
            "BATON_DATABASE_URL": self.database_url,
            "BATON_BROKER_URL": self.broker_url,
            "BATON_APP": APP,
            "PYTHONWARNINGS": "ignore",
        }

    def begin(
        self,
        *agents: str,
        pool: str = "threads",
        concurrency: int = 4,
        extra: tuple[str, ...] = (),
        **env: str,
    ) -> Process:
        """Start a worker of these agents (or whole queues, `baton.submit`); it may not be ready yet.

        `env` is added to its environment.
        """
        self._started += 1
        queues = ",".join(agent if "." in agent else f"agent.{agent}" for agent in agents)
        name = f"{pool}{self._started}"
        options = ("-P", pool, "-c", str(concurrency), "-n", f"{name}@localhost", *QUICK, *extra)
        return self.processes.worker("-Q", queues, *options, name=name, env={**self.env, **env})

    def worker(self, *agents: str, pool: str = "threads", concurrency: int = 4, **env: str) -> Process:
        """A worker of these agents that is ready."""
        return ready(self.begin(*agents, pool=pool, concurrency=concurrency, **env))

    def submit(self, workflow: Workflow, value: Any, **options: Any) -> RunHandle:
        return self.client.submit(workflow, value, **options)

    def run(self, workflow: Workflow, value: Any, timeout: float = 40, **options: Any) -> Any:
        """The output of a run."""
        return self.submit(workflow, value, **options).result(timeout)

    def kinds(self, run: RunHandle, path: str) -> list[str]:
        """What happened to a step."""
        return [event.kind.value for event in self.client.events(run.id) if event.path == path]

    def query(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            return conn.execute(statement, values).fetchall()

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.broker_url)

    def close(self) -> None:
        self.client.close()
        self.processes.end_all()


def ready(worker: Process) -> Process:
    """The worker, once it consumes."""

    def consumes() -> None:
        assert worker.alive, worker.text()
        assert " ready." in worker.text(), worker.text()

    eventually(consumes, timeout=60)
    return worker
