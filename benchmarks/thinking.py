"""What it costs that each call of a model and a tool is kept: beside pydantic-ai alone, which keeps nothing.

Both ask the same scripted provider, which stands in a process of its own and answers at once, or after a second.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import thinking_agents, thinking_plain, thinking_provider
from benchmarks.meter import Meter
from benchmarks.scenarios import Sizes
from benchmarks.sides import PATIENCE, ROOT, Worker
from benchmarks.thinking_agents import Task
from orchestrator.client import Client
from orchestrator.store import schema

TURNS = 10
"""Turns with a call of a tool in the conversations whose steps are timed."""
MORE = 4
"""Calls of a tool beside the first one, in the conversations that have more of them in a turn."""
SLOW = 1.0
"""Seconds that the model takes where many think at a time."""


@dataclass(frozen=True)
class Thought:
    """What something takes with pydantic-ai alone, and as an agent of Baton."""

    title: str
    unit: str
    plain: float
    baton: float


class _Plain:
    """pydantic-ai in a process of its own."""

    def __init__(self, provider: str) -> None:
        self.process = _program(thinking_plain, BENCHMARK_PROVIDER=provider)

    def think(self, tasks: list[Task]) -> float:
        return self._ask(tasks)[0]

    def peak_memory(self) -> float:
        return self._ask([])[1]

    def _ask(self, tasks: list[Task]) -> tuple[float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([one.model_dump() for one in tasks]) + "\n")
        self.process.stdin.flush()
        seconds, megabytes = json.loads(self.process.stdout.readline())
        return seconds, megabytes


class _Baton:
    """One worker process that holds all conversations."""

    def __init__(
        self, database_url: str, broker_url: str, provider: str, concurrency: int, folder: Path
    ) -> None:
        schema.upgrade(database_url)
        env = {
            "BATON_DATABASE_URL": database_url,
            "BATON_BROKER_URL": broker_url,
            "BATON_APP": thinking_agents.__name__,
            "BENCHMARK_PROVIDER": provider,
        }
        arguments = ("-c", str(concurrency), "-Q", thinking_agents.thinker.spec.queue, "-n", "thinking@%h")
        self.worker = Worker("workers.app", arguments, env, folder / "thinking.log")
        self.meter = Meter(self.worker.process, broker_url, database_url)
        self.client = Client(database_url, broker_url)

    def think(self, tasks: list[Task]) -> float:
        began = time.perf_counter()
        handles = self.client.submit_many(thinking_agents.thinking, [one.model_dump() for one in tasks])
        for handle, task in zip(handles, tasks, strict=True):
            assert handle.result(PATIENCE) == {"turns": task.turns}
        return time.perf_counter() - began

    def peak_memory(self) -> float:
        return self.meter.peak_memory()

    def close(self) -> None:
        self.client.close()
        self.meter.close()
        self.worker.stop()


def measure_thinking(database_url: str, broker_url: str, sizes: Sizes, folder: Path) -> list[Thought]:
    """Alternating; medians of single conversations, then all at a time."""
    provider = _program(thinking_provider)
    assert provider.stdout is not None
    url = provider.stdout.readline().strip()
    plain, baton = _Plain(url), _Baton(database_url, broker_url, url, sizes.waits, folder)
    try:
        return list(_measured(plain, baton, sizes))
    finally:
        baton.close()
        for process in (plain.process, provider):
            process.kill()
            process.communicate()


def _measured(plain: _Plain, baton: _Baton, sizes: Sizes) -> Iterator[Thought]:
    sides: tuple[_Plain | _Baton, ...] = (plain, baton)
    numbers = iter(range(10**9))

    def median(turns: int, calls: int = 1) -> list[float]:
        """Milliseconds that such a conversation takes on each side."""
        took: list[list[float]] = [[], []]
        for _ in range(sizes.singles + 1):
            for side, times in zip(sides, took, strict=True):
                times.append(1000 * side.think([Task(turns=turns, calls=calls, number=next(numbers))]))
        return [statistics.median(times[1:]) for times in took]

    answer, short, long, wide = median(0), median(1), median(1 + TURNS), median(1 + TURNS, 1 + MORE)
    yield Thought("one call of the model, from the submit to its answer", "ms", *answer)
    turn = [(one - other) / TURNS for one, other in zip(long, short, strict=True)]
    yield Thought("each further turn: a call of a tool, and of the model", "ms", *turn)
    tool = [(one - other) / ((1 + TURNS) * MORE) for one, other in zip(wide, long, strict=True)]
    yield Thought("each further call of a tool at the same time", "ms", *tool)
    many = [Task(turns=0, delay=SLOW, number=next(numbers)) for _ in range(sizes.waits)]
    seconds = [side.think(many) for side in sides]
    yield Thought(f"{sizes.waits} agents at a time, whose model takes {SLOW:g} s", "s", *seconds)
    yield Thought(
        "and the memory of the process that holds them", "MB", *(side.peak_memory() for side in sides)
    )


def _program(module: Any, **env: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", module.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **env},
    )
