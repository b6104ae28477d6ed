"""What a child process writes to its standard error, in the log of its worker: line by line, without secrets."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

log = logging.getLogger(__name__)

LONGEST = 64 * 1024
"""Characters of a line that are logged together."""


@contextmanager
def logged(name: str) -> Iterator[TextIO]:
    """A pipe to give to a child of this name, which needs it open only until it has begun."""
    read, write = os.pipe()
    threading.Thread(target=_log, args=(name, read), name=f"said by {name}", daemon=True).start()
    with open(write, "w") as pipe:
        yield pipe


def _log(name: str, pipe: int) -> None:
    """Until all who could write have ended."""
    with open(pipe, errors="replace") as lines:
        while line := lines.readline(LONGEST):
            log.warning("%s: %s", name, line.rstrip())
