"""The two sides of every comparison. Both are given servers that run, and start one worker process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import psutil
from celery import chain, chord
from celery.exceptions import TimeoutError as CeleryTimeout

from benchmarks import agents, celery_app
from benchmarks.meter import Meter
from orchestrator.client import Client
from orchestrator.local.leash import spawn
from orchestrator.store import schema

ROOT = Path(__file__).parent.parent
PATIENCE = 300.0
"""Seconds after which a run counts as lost."""
LOOK = 2.0
"""Seconds after which plain Celery is asked anew for a result that it has not told."""

_FLAGS = ("--pool", "threads", "--loglevel", "WARNING", "--without-mingle", "--without-gossip")


class Side(Protocol):
    """What a scenario may ask of a side; each returns when all results are there."""

    name: str
    meter: Meter

    def pipelines(self, count: int) -> None: ...
    def fan_outs(self, count: int) -> None: ...
    def wide(self, branches: int) -> None: ...
    def waits(self, branches: int) -> None: ...
    def close(self) -> None: ...


class Worker:
    """One Celery worker process; what it says goes to a file."""

    def __init__(self, app: str, arguments: tuple[str, ...], env: Mapping[str, str], log: Path) -> None:
        command = (sys.executable, "-m", "celery", "-A", app, "worker", *_FLAGS, *arguments)
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with log.open("ab") as output:
            self._handle = spawn(
                command, env={**os.environ, "PYTHONPATH": paths, **env}, cwd=log.parent, output=output
            )
        self.process = psutil.Process(self._handle.pid)

    def kill(self) -> None:
        """SIGKILL, and return when it is gone."""
        self._handle.kill()
        self._handle.wait()

    def stop(self, within: float = 15) -> None:
        self._handle.terminate()
        try:
            self._handle.wait(within)
        except subprocess.TimeoutExpired:
            self._handle.kill()
            self._handle.wait()


class Baton:
    """Baton on its Postgres and Redis."""

    name = "Baton"

    def __init__(
        self, database_url: str, broker_url: str, *, concurrency: int, folder: Path, server: str = ""
    ) -> None:
        schema.upgrade(database_url)
        env = {
            "BATON_DATABASE_URL": database_url,
            "BATON_BROKER_URL": broker_url,
            "BATON_APP": agents.__name__,
            "BENCHMARK_SERVER": server,
        }
        used = [agents.ask, agents.total] if server else _AGENTS
        queues = ",".join(one.spec.queue for one in used)
        arguments = ("-c", str(concurrency), "-Q", queues, "-n", f"baton{concurrency}@%h")
        self._worker = Worker("workers.app", arguments, env, folder / "baton.log")
        self.meter = Meter(self._worker.process, broker_url, database_url)
        self.client = Client(database_url, broker_url)

    def pipelines(self, count: int) -> None:
        self._run(agents.pipeline, [0] * count, 5)

    def fan_outs(self, count: int) -> None:
        self._run(agents.ten, [0] * count, 10)

    def wide(self, branches: int) -> None:
        self._run(agents.many, [[0] * branches], branches)

    def waits(self, branches: int) -> None:
        self._run(agents.waiting, [[0] * branches], branches)

    def close(self) -> None:
        self.client.close()
        self.meter.close()
        self._worker.stop()

    def _run(self, workflow: Any, inputs: list[Any], answer: int) -> None:
        for handle in self.client.submit_many(workflow, inputs):
            assert handle.result(PATIENCE) == answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PlainCelery:
    """Celery's own chain and chord on a Redis; nothing of it survives that Redis."""

    name = "plain Celery"

    def __init__(self, redis_url: str, *, concurrency: int, folder: Path, server: str = "") -> None:
        env = {"BENCHMARK_REDIS": redis_url, "BENCHMARK_SERVER": server}
        arguments = ("-c", str(concurrency), "-n", f"plain{concurrency}@%h")
        self._worker = Worker(celery_app.__name__, arguments, env, folder / "celery.log")
        self.meter = Meter(self._worker.process, redis_url)
        self._app = celery_app.make_app(redis_url)

    def pipelines(self, count: int) -> None:
        stages = [f"stage{n}" for n in range(1, celery_app.STAGES + 1)]
        self._get([chain(self._task(stages[0], 0), *map(self._task, stages[1:])) for _ in range(count)], 5)

    def fan_outs(self, count: int) -> None:
        self._get([self._chord("branch", 10) for _ in range(count)], 10)

    def wide(self, branches: int) -> None:
        self._get([self._chord("branch", branches)], branches)

    def waits(self, branches: int) -> None:
        self._get([self._chord("ask", branches)], branches)

    def close(self) -> None:
        self._app.close()
        self.meter.close()
        self._worker.stop()

    def _task(self, name: str, *args: int) -> Any:
        full = name if name.startswith("stage") else f"{celery_app.__name__}.{name}"
        return self._app.signature(full, args=args)

    def _chord(self, name: str, branches: int) -> Any:
        return chord([self._task(name, 0) for _ in range(branches)], self._task("total"), app=self._app)

    def _get(self, canvases: list[Any], answer: int) -> None:
        for result in [canvas.apply_async() for canvas in canvases]:
            assert _waited_for(result) == answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _waited_for(result: Any) -> Any:
    """What a task of plain Celery gave.

    Its client subscribes over one connection and looks over another one. A task that ends between the two is told to
    nobody, and `get` waits for good though the result is there; so it is asked again.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return result.get(timeout=LOOK)
        except CeleryTimeout:
            if time.monotonic() > until:
                raise


_AGENTS = [
    agents.first,
    agents.second,
    agents.third,
    agents.fourth,
    agents.fifth,
    agents.branch,
    agents.total,
    agents.total_named,
    agents.total_there,
    agents.fails_once,
    agents.plan,
    agents.review,
    agents.judge,
]
