"""One named process that is started again when it ends unasked, and ended in good order when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from orchestrator.local.leash import spawn
from orchestrator.local.lines import Lines
from orchestrator.local.reaper import Reaper

_STEADY = 10.0  # seconds after which a process counts as having started well
_LONGEST_BACKOFF = 15.0  # seconds
_LONGEST_LINE = 64 * 1024  # bytes

State = Literal["running", "waiting", "draining", "ended"]


@dataclass(frozen=True)
class Command:
    """How to start a process; `env` is its whole environment, None means ours."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None


@dataclass(frozen=True)
class Status:
    """What a child does now; `starts` counts from 1, "waiting" is the pause before a new start."""

    name: str
    state: State
    pid: int | None
    starts: int


class Child:
    """Keeps one process alive from a thread of its own, until `leave`."""

    def __init__(self, command: Command, lines: Lines, reaper: Reaper, *, backoff: float = 0.5) -> None:
        self.command = command
        self._lines = lines
        self._reaper = reaper
        self._backoff = backoff
        # Reentrant, because a second Ctrl-C calls `kill` in a thread that may be inside `leave`.
        self._lock = threading.RLock()
        self._leaving = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._thread = threading.Thread(target=self._live, name=f"child-{command.name}", daemon=True)

    def start(self) -> None:
        """Start the process, and its thread."""
        self._thread.start()

    def status(self) -> Status:
        """What the child does at this moment."""
        with self._lock:
            pid = self._process.pid if self._process else None
            return Status(self.command.name, self._state(), pid, self._starts)

    def leave(self, within: float) -> None:
        """Ask the process to finish by SIGTERM; SIGKILL its group after `within` seconds. Returns at once."""
        with self._lock:
            self._leaving.set()
            if self._process is None:
                return
            os.kill(self._process.pid, signal.SIGTERM)
        timer = threading.Timer(within, self._kill_late, args=(within,))
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """End the process and its group at once, without a new start."""
        with self._lock:
            self._leaving.set()
            if self._process is not None:
                _kill_group(self._process.pid)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the process has left; False when `timeout` seconds were too short."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _live(self) -> None:
        failures = 0
        while process := self._spawn():
            born = time.monotonic()
            code = self._follow(process)
            if self._leaving.is_set():
                return
            failures = 1 if time.monotonic() - born > _STEADY else failures + 1
            pause = min(_LONGEST_BACKOFF, self._backoff * 2 ** (failures - 1))
            self._lines.say(self.command.name, f"{_ending(code)}; starting it again in {pause:.1f} s")
            self._leaving.wait(pause)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._leaving.is_set():
                return None
            wanted = self.command
            self._process = spawn(wanted.argv, cwd=wanted.cwd, env=wanted.env, output=subprocess.PIPE)
            self._reaper.watch(self._process.pid)
            self._starts += 1
            return self._process

    def _follow(self, process: subprocess.Popen[bytes]) -> int:
        """Show what it writes until it ends, leave nothing of its group behind, return its exit code."""
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()
        # Do not reap yet: while the zombie holds the number, killing that group cannot hit a stranger.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            _kill_group(process.pid)
            self._reaper.forget(process.pid)
            code = process.wait()
            self._process = None
        reader.join(2.0)
        return code

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_LONGEST_LINE):
                self._lines.show(self.command.name, line.decode(errors="replace").rstrip("\r\n"))

    def _kill_late(self, waited: float) -> None:
        with self._lock:
            if self._process is not None:
                self._lines.say(self.command.name, f"did not finish within {waited:g} s; killing it")
                _kill_group(self._process.pid)

    def _state(self) -> State:
        if self._process is not None:
            return "draining" if self._leaving.is_set() else "running"
        return "ended" if self._leaving.is_set() else "waiting"


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
