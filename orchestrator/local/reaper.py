"""A watcher that outlives a killed supervisor just long enough to kill the process groups it had started.

The kernel ends the direct children (see `leash`), not their children: a tool that an agent started, for
example. The watcher is this file run as a script; it learns of its owner's death by the end of its standard
input.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


class Reaper:
    """Told which process groups live; kills them when this process dies without `close`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        # Not on the leash: it has to live a moment longer than we do.
        self._script = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        """From now on `group` must not outlive this process."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """`group` is gone, and its number may soon be somebody else's."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the watcher when no group is left; may be called twice."""
        with self._lock, suppress(OSError, ValueError):
            if self._script.stdin is not None:
                self._script.stdin.close()
        self._script.wait()

    def _tell(self, line: str) -> None:
        with self._lock, suppress(OSError, ValueError):
            if self._script.stdin is not None:
                self._script.stdin.write(line.encode())
                self._script.stdin.flush()


def _watch_over_stdin() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        groups.add(group) if line.startswith("+") else groups.discard(group)
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    _watch_over_stdin()
