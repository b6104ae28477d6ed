"""Tools of the tests: a polled assertion, fresh databases, and real processes that never outlive a test."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import psutil
import psycopg

from orchestrator.local.leash import spawn
from orchestrator.local.postgres import Postgres

T = TypeVar("T")

_TAIL = 200  # lines of a process's output that a failed test shows
_MARK = "BATON_TEST_MARK"


def eventually(assertion: Callable[[], T], timeout: float = 10.0, every: float = 0.02) -> T:
    """Call `assertion` until it neither raises AssertionError nor returns False, and return what it returns.

    It is called every so many seconds; after `timeout` seconds its last error is the test's error. This is the only
    place where the tests sleep.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            result = assertion()
            assert result is not False, f"still false after {timeout} s"
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(every)
        else:
            return result


class Databases:
    """Fresh databases on one real server, each made from a template in well under 0.1 s."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._admin = psycopg.connect(server.url_of("postgres"), autocommit=True)
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()

    def create(self, template: str = "template1") -> str:
        """The URL of a new database that equals `template`."""
        name = f"test_{next(self._numbers)}"
        self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self._server.url_of(name)

    def drop(self, url: str) -> None:
        """Remove a database, ending the sessions that still use it."""
        self._admin.execute(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def template(self, name: str, prepare: Callable[[str], object]) -> str:
        """The name of a template that `prepare(url)` fills once; it must close its connections."""
        if name not in self._templates:
            self._admin.execute(f'CREATE DATABASE "{name}"')
            prepare(self._server.url_of(name))
            self._templates.add(name)
        return name

    def close(self) -> None:
        self._admin.close()


@dataclass(frozen=True)
class Process:
    """One real process of a test; `output` is a file with its stdout and stderr."""

    name: str
    handle: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        return self.handle.pid

    @property
    def alive(self) -> bool:
        return self.handle.poll() is None

    def text(self) -> str:
        """What it has written so far."""
        return self.output.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, not to its children."""
        self.handle.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the process and all of its group, as a machine's end would; return when it is gone."""
        _kill_group(self.pid)
        self.handle.wait(10)

    def wait(self, timeout: float = 20.0) -> int:
        """Its exit code, once it has ended; raises `subprocess.TimeoutExpired`."""
        return self.handle.wait(timeout)


class Processes:
    """Starts processes for one test and ends all of them, their children and grandchildren after it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = uuid.uuid4().hex
        self._started: list[Process] = []

    def start(
        self, *argv: str, name: str = "process", env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Run `argv` in a process group of its own; `env` is added to this process's environment."""
        output = self._folder / f"{len(self._started)}-{name}.log"
        with output.open("wb") as log:
            marked = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {}), _MARK: self._mark}
            process = Process(name, spawn(argv, env=marked, cwd=cwd, output=log), output)
        self._started.append(process)
        return process

    def python(
        self, code: str, *args: str, name: str = "python", env: Mapping[str, str] | None = None
    ) -> Process:
        """Run a Python program given as text."""
        return self.start(sys.executable, "-c", code, *args, name=name, env=env)

    def worker(self, *args: str, name: str = "worker", env: Mapping[str, str] | None = None) -> Process:
        """Run a Celery worker of `workers.app`, with `args` after `celery worker`."""
        command = (sys.executable, "-m", "celery", "-A", "workers.app", "worker", "--loglevel", "INFO")
        return self.start(*command, *args, name=name, env=env)

    def end_all(self) -> None:
        """Kill everything, print the outputs (shown for a failed test), and prove that nothing is left."""
        family = [relative for process in self._started for relative in _descendants(process.pid)]
        for process in self._started:
            _kill_group(process.pid)
            process.handle.wait(10)
        for pid in self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            lines = process.text().splitlines()[-_TAIL:]
            print(f"----- {process.name} (exit {process.handle.returncode})", *lines, sep="\n")
        # Servers overwrite their environment with their title, so the mark alone would miss them.
        eventually(lambda: not self.alive() and not [process for process in family if process.is_running()])

    @property
    def started(self) -> list[Process]:
        """All of them, also those that have ended."""
        return list(self._started)

    def alive(self) -> list[int]:
        """Every process on this machine that inherited this test's mark, whatever its parent or group."""
        return list(with_environment(_MARK, self._mark))


def with_environment(name: str, value: str) -> Iterator[int]:
    """The ids of the living processes that were started with this variable."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value:
                yield process.pid
        except (psutil.Error, OSError):
            continue


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
