"""The embedded servers of a data folder: started once, shared by all who ask, ended with their owner."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import asdict, dataclass
from json import JSONDecodeError, dumps, loads
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from orchestrator.local.postgres import Postgres
from orchestrator.local.redis import Redis, answers
from schemas.errors import Unavailable

STATE = "servers.json"


@dataclass(frozen=True)
class Urls:
    """Where running servers are reached."""

    database_url: str
    broker_url: str


class Servers:
    """A PostgreSQL and a Redis in `data_dir`, as a context manager or by `start()` and `stop()`.

    The first process to start them owns them: they end with its `stop()` and, on Linux, with its death. A
    later process is given the same servers, and its `stop()` leaves them alone. Who owns them is decided by a
    file lock, which the kernel takes back at any death, so state left by a SIGKILL or a reboot is never
    believed.
    """

    def __init__(self, data_dir: Path | str) -> None:
        self.data_dir = Path(data_dir).expanduser().resolve()
        self._postgres = Postgres(self.data_dir)
        self._redis = Redis(self.data_dir)
        self._lock: int | None = None
        self._urls: Urls | None = None

    @property
    def database_url(self) -> str:
        """`postgresql://…` of the running PostgreSQL."""
        return self._running().database_url

    @property
    def broker_url(self) -> str:
        """`redis://…` of the running Redis."""
        return self._running().broker_url

    @property
    def owned(self) -> bool:
        """Whether these servers end with this process."""
        return self._lock is not None

    def start(self, timeout: float = 30.0) -> Self:
        """Start the servers, or join those that another process runs here.

        Raises `Unavailable` when a wheel is missing, when a server does not start, or when the owner of this
        folder does not get its servers running in `timeout` seconds.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout
        while self._urls is None:
            self._lock = _try_lock(self.data_dir / "servers.lock")
            if self._lock is not None:
                self._start_own()
            else:
                self._urls = current(self.data_dir)
                self._give_up_after(deadline)
        return self

    def stop(self) -> None:
        """End the servers if this process owns them; may be called twice or before a start."""
        self._urls = None
        if self._lock is None:
            return
        (self.data_dir / STATE).unlink(missing_ok=True)
        try:
            self._redis.stop()
            self._postgres.stop()
        finally:
            # Explicitly, for a forked child may still hold the same open file.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_own(self) -> None:
        try:
            self._redis.start()
            self._postgres.start()
            self._urls = Urls(self._postgres.url, self._redis.url)
            _write_private(self.data_dir / STATE, dumps({"owner": os.getpid(), **asdict(self._urls)}))
        except BaseException:
            self.stop()
            raise

    def _give_up_after(self, deadline: float) -> None:
        if self._urls is not None:
            return
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Another process holds {self.data_dir} but its servers do not answer.",
                next_step="end that `baton up`, or choose another BATON_DATA_DIR",
            )
        time.sleep(0.05)

    def _running(self) -> Urls:
        if self._urls is None:
            raise Unavailable("The embedded servers are not running.", next_step="baton up")
        return self._urls


def current(data_dir: Path | str) -> Urls | None:
    """The embedded servers that run in `data_dir` and answer now; None when there are none."""
    folder = Path(data_dir).expanduser().resolve()
    try:
        state = loads((folder / STATE).read_text())
        urls = Urls(state["database_url"], state["broker_url"])
    except (OSError, JSONDecodeError, KeyError):
        return None
    broker = urlsplit(urls.broker_url)
    alive = answers(broker.port or 0, broker.password or "") and Postgres(folder).listens()
    return urls if alive else None


def erase(data_dir: Path | str) -> None:
    """Remove all data of the embedded servers of `data_dir`, which must not be running.

    Raises `Unavailable` when they are.
    """
    folder = Path(data_dir).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lock = _try_lock(folder / "servers.lock")
    if lock is None:
        raise Unavailable(f"The servers in {folder} are running.", next_step="end `baton up` first")
    try:
        Postgres(folder).erase()
        (folder / STATE).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _try_lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by us alone."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)
