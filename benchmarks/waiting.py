"""Starts the server that makes agents wait."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import waiting_server as program
from orchestrator.local.leash import spawn
from orchestrator.local.redis import free_port


@contextmanager
def waiting_server(seconds: float) -> Iterator[str]:
    """The URL of a server of its own that answers after some seconds."""
    port = free_port()
    process = spawn([sys.executable, program.__file__, str(port), str(seconds)])
    try:
        _wait_for(port, time.monotonic() + 10)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, deadline: float) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
