"""The whole of Baton on one machine: servers, a pool of worker processes per agent, and Flower."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, ValidationError

from orchestrator.local.child import Command
from orchestrator.local.control import Message, serve
from orchestrator.local.lines import Lines
from orchestrator.local.processes import Supervisor
from orchestrator.local.redis import free_port
from orchestrator.local.servers import Servers, Urls
from schemas.base import Frozen
from schemas.errors import Conflict, NotFound, Unavailable
from schemas.intake import SUBMIT

_CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "workers.app")
_AS_ROOT = "ignore:You're running the worker with superuser privileges"
"""A warning of eight lines for each worker, in containers and on test machines where root is all there is."""


@dataclass(frozen=True)
class PoolSpec:
    """The workers of one agent: `processes` of them, each with `concurrency` threads or forked children."""

    agent: str
    queue: str
    processes: int = 1
    concurrency: int = 1
    pool: Literal["threads", "prefork"] = "threads"


class Request(Frozen):
    """What `orchestrator.local.control.request` may ask of a stack; an empty request asks how it stands."""

    scale: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Worker processes per agent."""


class Stack:
    """Runs Baton for the modules named by `app` until `stop`.

    Given URLs are used as they are; each server without one is started in `data_dir`. `env` is added to the
    environment of every process. `cwd` is where Python finds the modules of `app`.
    """

    def __init__(
        self,
        app: str,
        data_dir: Path | str,
        *,
        pools: Sequence[PoolSpec],
        database_url: str | None = None,
        broker_url: str | None = None,
        flower: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        lines: Lines | None = None,
        drain: float = 30.0,
    ) -> None:
        self.data_dir = Path(data_dir).expanduser().resolve()
        self.pools: dict[str, PoolSpec] = {pool.agent: pool for pool in pools}
        self.supervisor = Supervisor(lines, drain=drain)
        self.flower_url: str | None = None
        self._app = app
        self._given = (database_url, broker_url)
        self._wants_flower = flower
        self._env = dict(env or {})
        self._cwd = cwd
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._urls: Urls | None = None

    @property
    def urls(self) -> Urls:
        """Where the servers are; raises `Unavailable` before `start`."""
        if self._urls is None:
            raise Unavailable("The stack is not running.", next_step="baton up")
        return self._urls

    def start(self, prepare: Callable[[Urls], object] | None = None) -> Self:
        """Start the servers, call `prepare` (such as a migration) with their URLs, then start all processes.

        Raises `Conflict` when another stack runs in this data folder, `Unavailable` when a server does not
        start.
        """
        try:
            self._open.callback(serve(self.data_dir, self.handle).close)
            self._urls = self._servers()
            if prepare is not None:
                prepare(self._urls)
            self._open.callback(self.supervisor.stop)
            for pool in self.pools.values():
                self.scale(pool.agent, pool.processes)
            if self._wants_flower:
                self._start_flower()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Drain the workers, then end the servers; may be called twice or before a start."""
        self._open.close()

    def scale(self, agent: str, processes: int) -> None:
        """Change the number of worker processes of an agent; those that leave finish their steps first.

        Raises `NotFound` for an agent that has no pool here, `Conflict` for a negative number.
        """
        if processes < 0:
            raise Conflict(f"A pool cannot have {processes} processes.")
        with self._lock:
            pool = self._pool(agent)
            self.pools[agent] = replace(pool, processes=processes)
            names = dict(self._members(agent))
            staying = [name for name, state in names.items() if state != "draining"]
            for name in staying[processes:]:
                self.supervisor.remove(name)
            free = (name for number in range(1, 10_000) if (name := f"{agent}-{number}") not in names)
            for _ in range(processes - len(staying)):
                self.supervisor.add(self._worker(pool, next(free)))

    def wait_ready(self, ready: Callable[[PoolSpec], bool], timeout: float = 30.0) -> None:
        """Return once `ready(pool)` was true for every pool that has processes.

        Raises `Unavailable` with the names of the pools that are not ready after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        missing = [pool for pool in self.pools.values() if pool.processes]
        while missing := [pool for pool in missing if not ready(pool)]:
            if time.monotonic() > deadline:
                names = ", ".join(pool.agent for pool in missing)
                raise Unavailable(
                    f"No worker came up within {timeout:g} s for: {names}.", next_step="baton doctor"
                )
            time.sleep(0.05)

    def handle(self, message: Message) -> dict[str, Any]:
        """Answer one request of another command, and say how the stack stands.

        The answer: `{"pools": {agent: {…PoolSpec}}, "processes": [{…Status}], "urls": {…}, "flower": url |
        null}`.
        """
        try:
            wanted = Request.model_validate(dict(message))
        except ValidationError as error:
            raise Conflict(
                f"The stack does not understand this request: {error.errors()[0]['msg']}"
            ) from error
        for agent in wanted.scale:
            self._pool(agent)  # all or nothing
        for agent, processes in wanted.scale.items():
            self.scale(agent, processes)
        return {
            "pools": {agent: asdict(pool) for agent, pool in self.pools.items()},
            "processes": [asdict(status) for status in self.supervisor.statuses()],
            "urls": asdict(self._urls) if self._urls else None,
            "flower": self.flower_url,
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _servers(self) -> Urls:
        database, broker = self._given
        if database and broker:
            return Urls(database, broker)
        servers = self._open.enter_context(Servers(self.data_dir))
        return Urls(database or servers.database_url, broker or servers.broker_url)

    def _pool(self, agent: str) -> PoolSpec:
        try:
            return self.pools[agent]
        except KeyError:
            known = ", ".join(sorted(self.pools)) or "none"
            raise NotFound(f"There is no pool for the agent {agent}; there are: {known}.") from None

    def _members(self, agent: str) -> list[tuple[str, str]]:
        numbered = [(status.name.rpartition("-"), status) for status in self.supervisor.statuses()]
        return [(status.name, status.state) for (owner, _, _), status in numbered if owner == agent]

    def _worker(self, pool: PoolSpec, name: str) -> Command:
        events = ("--task-events",) if self._wants_flower else ()
        queues = f"{pool.queue},{SUBMIT}"  # every worker takes in the submissions of Celery programs
        argv = (
            *(*_CELERY, "worker", "--queues", queues, "--hostname", f"{name}@%h", "--loglevel", "INFO"),
            *("--pool", pool.pool, "--concurrency", str(pool.concurrency), *events),
            # Workers never talk to each other, so they need not look for one another at their start.
            *("--without-mingle", "--without-gossip"),
        )
        return Command(name, argv, env=self._environment(), cwd=self._cwd)

    def _start_flower(self) -> None:
        port = free_port()
        self.flower_url = f"http://127.0.0.1:{port}"
        options = ("--address=127.0.0.1", f"--port={port}", "--read_only=True", "--purge_offline_workers=60")
        self.supervisor.add(Command("flower", (*_CELERY, "flower", *options), self._environment(), self._cwd))

    def _environment(self) -> dict[str, str]:
        baton = {
            "BATON_DATABASE_URL": self.urls.database_url,
            "BATON_BROKER_URL": self.urls.broker_url,
            "BATON_APP": self._app,
            "BATON_DATA_DIR": str(self.data_dir),
        }
        told = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS") or _AS_ROOT}
        return {**os.environ, **told, **self._env, **baton}
