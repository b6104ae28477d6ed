"""The supervisor of `baton up`: a changing set of named processes that live and end together."""

from __future__ import annotations

import signal
import threading
import time
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Self

from orchestrator.local.child import Child, Command, Status
from orchestrator.local.lines import Lines
from orchestrator.local.reaper import Reaper
from schemas.errors import Conflict, NotFound

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AFTER_KILL = 5.0  # seconds in which a killed process must be gone


class Supervisor:
    """Starts processes, shows their output, starts crashed ones again, and ends all of them on `stop`.

    `drain` is the time in seconds that a process has between SIGTERM and SIGKILL; `backoff` the pause before
    the first new start after a crash, doubled with each further one. On Linux all processes die with this
    one.
    """

    def __init__(self, lines: Lines | None = None, *, drain: float = 30.0, backoff: float = 0.5) -> None:
        self._lines = lines or Lines()
        self.drain = drain
        self._backoff = backoff
        self._lock = threading.RLock()
        self._reaper: Reaper | None = None
        self._children: dict[str, Child] = {}
        self._stopped = False

    def add(self, command: Command) -> None:
        """Start a process and keep it alive.

        Raises `Conflict` when its name is taken, also by one that still drains, or when the supervisor stops.
        """
        with self._lock:
            self._sweep()
            if self._stopped:
                raise Conflict("The processes are being stopped.")
            if command.name in self._children:
                raise Conflict(f"A process named {command.name} is here already.")
            self._reaper = self._reaper or Reaper()
            child = Child(command, self._lines, self._reaper, backoff=self._backoff)
            self._children[command.name] = child
            child.start()

    def remove(self, name: str) -> None:
        """Let a process finish what it does and end it; returns at once.

        Raises `NotFound` when there is no such process.
        """
        with self._lock:
            self._lines.say(name, "is being stopped")
            self._child(name).leave(self.drain)

    def replace(self, command: Command) -> None:
        """Start `command` in the place of the process of the same name, once that one has drained.

        Raises `NotFound` when there is no such process.
        """
        child = self._child(command.name)
        child.leave(self.drain)
        child.join(self.drain + _AFTER_KILL)
        self.add(command)

    def statuses(self) -> list[Status]:
        """What each process does now, those that drain included, in the order of their start."""
        with self._lock:
            self._sweep()
            return [child.status() for child in self._children.values()]

    def run(self) -> None:
        """Wait for SIGINT, SIGTERM or SIGHUP, then stop; a second one kills at once. Main thread only."""
        wishes: SimpleQueue[int] = SimpleQueue()  # the one queue that a signal handler may use

        asked = False

        def on_signal(number: int, _frame: FrameType | None) -> None:
            nonlocal asked
            if asked:
                self.kill()
            asked = True
            wishes.put(number)

        before = {number: signal.signal(number, on_signal) for number in _STOPPING}
        try:
            wishes.get()
            self._lines.say("baton", "finishing what is running; Ctrl-C again kills it")
            self.stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Drain all processes at the same time and wait until they are gone; may be called twice."""
        with self._lock:
            self._stopped = True
            children = list(self._children.values())
            for child in children:
                child.leave(self.drain)
        deadline = time.monotonic() + self.drain + _AFTER_KILL
        for child in children:
            child.join(max(0.0, deadline - time.monotonic()))
        if self._reaper is not None:
            self._reaper.close()

    def kill(self) -> None:
        """End all processes at once, by SIGKILL."""
        self._stopped = True
        for child in list(self._children.values()):
            child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _child(self, name: str) -> Child:
        try:
            return self._children[name]
        except KeyError:
            raise NotFound(f"There is no process named {name}.") from None

    def _sweep(self) -> None:
        ended = [name for name, child in self._children.items() if child.status().state == "ended"]
        for name in ended:
            self._children.pop(name).join()
