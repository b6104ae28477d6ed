"""A running stack: other commands find it, change it, and are told clearly when there is none."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from rich.console import Console

from orchestrator.local import control
from orchestrator.local.child import Status
from orchestrator.local.lines import Lines
from orchestrator.local.servers import Urls, current, erase
from orchestrator.local.stack import PoolSpec, Stack
from schemas.errors import Conflict, NotFound, Unavailable
from tests.support import Processes, eventually

# A stand-in for `workers.app`, so that this room is tested without the floor above it: a real Celery worker.
APP = """
import os
from celery import Celery
app = Celery("stand-in", broker=os.environ["BATON_BROKER_URL"])
app.conf.worker_hijack_root_logger = False
app.conf.broker_connection_retry_on_startup = True
"""
POOLS = [
    PoolSpec("researcher", "agent.researcher", processes=2, concurrency=4),
    PoolSpec("writer", "agent.writer"),
]


STACK = """
import sys
from pathlib import Path
from orchestrator.local.stack import PoolSpec, Stack
modules = Path(sys.argv[1]) / "modules"
pools = [
    PoolSpec("researcher", "agent.researcher", concurrency=2),
    PoolSpec("writer", "agent.writer", concurrency=2, pool="prefork"),
]
with Stack("some.module", sys.argv[1], pools=pools, cwd=modules, env={"PYTHONPATH": str(modules)}) as stack:
    stack.supervisor.run()
"""
DIES_LISTENING = """
import os, sys
from orchestrator.local.control import serve
control = serve(sys.argv[1], dict)
os._exit(9)
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="baton stack "))
    folder.chmod(0o711)
    yield folder
    erase(folder)
    shutil.rmtree(folder)


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


def stack_in(data_dir: Path, output: io.StringIO, *, flower: bool = False, urls: Urls | None = None) -> Stack:
    modules = write_app(data_dir)
    return Stack(
        "some.module",
        data_dir,
        pools=POOLS,
        database_url=urls.database_url if urls else None,
        broker_url=urls.broker_url if urls else None,
        flower=flower,
        env={"PYTHONPATH": str(modules)},
        cwd=modules,
        lines=Lines(Console(file=output, width=200)),
        drain=20.0,
    )


def write_app(data_dir: Path) -> Path:
    modules = data_dir / "modules"
    (modules / "workers").mkdir(parents=True)
    (modules / "workers" / "__init__.py").touch()
    (modules / "workers" / "app.py").write_text(APP)
    return modules


def names(answer: dict[str, object]) -> set[str]:
    processes = answer["processes"]
    assert isinstance(processes, list)
    return {process["name"] for process in processes if process["state"] == "running"}


def ready_in(output: io.StringIO, count: int) -> bool:
    return output.getvalue().count(" ready.") >= count


def test_a_stack_starts_scales_and_leaves_nothing_behind(data_dir: Path, output: io.StringIO) -> None:
    prepared: list[Urls] = []
    stack = stack_in(data_dir, output)
    try:
        stack.start(prepared.append)
        assert prepared == [current(data_dir)]
        stack.wait_ready(lambda _pool: ready_in(output, 3), timeout=40)
        assert names(control.request(data_dir, {})) == {"researcher-1", "researcher-2", "writer-1"}

        answer = control.request(data_dir, {"scale": {"researcher": 1, "writer": 2}})
        assert answer["pools"]["researcher"]["processes"] == 1
        expected = {"researcher-1", "writer-1", "writer-2"}
        eventually(lambda: names(control.request(data_dir, {})) == expected)
        eventually(lambda: ready_in(output, 4), timeout=30)

        answer = control.request(data_dir, {"scale": {"writer": 0}})
        eventually(lambda: names(control.request(data_dir, {})) == {"researcher-1"}, timeout=20)
        children = psutil.Process().children(recursive=True)
        workers = [child for child in children if "agent.researcher,baton.submit" in child.cmdline()]
        assert workers
    finally:
        stack.stop()

    assert not [worker for worker in workers if worker.is_running()]
    assert current(data_dir) is None
    assert "Traceback" not in output.getvalue()


def test_nothing_is_left_of_a_stack_killed_by_sigkill(data_dir: Path, processes: Processes) -> None:
    write_app(data_dir)
    main = processes.python(STACK, str(data_dir), name="stack")
    eventually(lambda: main.text().count(" ready.") == 2, timeout=40)
    family = psutil.Process(main.pid).children(recursive=True)
    assert {"postgres", "redis-server"} < {process.name() for process in family}

    main.handle.kill()

    eventually(lambda: not [process for process in family if process.is_running()], timeout=20)
    assert processes.alive() == []


def test_a_killed_worker_comes_back(data_dir: Path, output: io.StringIO) -> None:
    with stack_in(data_dir, output) as stack:
        before = {status.name: status.pid for status in eventually(lambda: running(stack, 3))}
        pid = before["writer-1"]
        assert pid is not None
        psutil.Process(pid).kill()
        eventually(lambda: any(status.starts == 2 and status.pid != pid for status in running(stack, 3)))


def test_flower_runs_beside_the_pools(data_dir: Path, output: io.StringIO) -> None:
    with stack_in(data_dir, output, flower=True) as stack:
        assert stack.flower_url is not None
        url = stack.flower_url

        def healthy() -> bool:
            try:
                return httpx.get(f"{url}/healthcheck").status_code == 200
            except httpx.TransportError:
                return False

        eventually(healthy, timeout=40)
        assert control.request(data_dir, {})["flower"] == url


def test_given_urls_are_used_as_they_are(
    data_dir: Path, output: io.StringIO, postgres_url: str, broker: str
) -> None:
    with stack_in(data_dir, output, urls=Urls(postgres_url, broker)) as stack:
        assert stack.urls == Urls(postgres_url, broker)
        assert current(data_dir) is None
        stack.wait_ready(lambda _pool: ready_in(output, 3), timeout=40)


def test_a_pool_that_does_not_come_up_is_named(data_dir: Path, output: io.StringIO) -> None:
    with (
        stack_in(data_dir, output) as stack,
        pytest.raises(Unavailable, match=r"within 0\.1 s for: writer\."),
    ):
        stack.wait_ready(lambda pool: pool.agent == "researcher", timeout=0.1)


def test_bad_requests_are_refused_as_a_whole(data_dir: Path, output: io.StringIO) -> None:
    with stack_in(data_dir, output) as stack:
        with pytest.raises(Conflict, match="no pool for the agent reviewer; there are: researcher, writer"):
            control.request(data_dir, {"scale": {"researcher": 1, "reviewer": 1}})
        with pytest.raises(Conflict, match="does not understand"):
            control.request(data_dir, {"scael": {}})
        with pytest.raises(Conflict, match="greater than or equal to 0"):
            control.request(data_dir, {"scale": {"researcher": -1}})
        with pytest.raises(NotFound):
            stack.scale("reviewer", 1)
        assert stack.pools["researcher"].processes == 2


def test_a_second_stack_is_refused_in_the_same_folder(data_dir: Path, output: io.StringIO) -> None:
    with stack_in(data_dir, output):
        second = Stack("other", data_dir, pools=[])
        with pytest.raises(Conflict, match="already running"):
            second.start()
        assert names(control.request(data_dir, {}))


def test_without_a_stack_the_next_command_is_named(data_dir: Path) -> None:
    with pytest.raises(Unavailable, match="No stack is running") as caught:
        control.request(data_dir, {})
    assert caught.value.next_step == "baton up"


def test_control_survives_faulty_handlers_and_its_own_crash(data_dir: Path) -> None:
    def handler(message: control.Message) -> control.Message:
        return {"double": 2 * message["number"]}

    deep = data_dir / "with a blank" / ("long-" * 40)
    with control.serve(deep, handler):
        with pytest.raises(Conflict, match="KeyError"):
            control.request(deep, {})
        assert control.request(deep, {"number": 21}) == {"double": 42}
    with pytest.raises(Unavailable):
        control.request(deep, {"number": 21})
    with control.serve(deep, handler):
        assert control.request(deep, {"number": 4}) == {"double": 8}


def test_a_socket_left_by_a_kill_is_taken_over(data_dir: Path) -> None:
    left = subprocess.run([sys.executable, "-c", DIES_LISTENING, str(data_dir)], check=False)
    assert left.returncode == 9
    assert (data_dir / "control.json").exists()
    with pytest.raises(Unavailable):
        control.request(data_dir, {})
    with control.serve(data_dir, lambda _message: {"new": True}):
        assert control.request(data_dir, {}) == {"new": True}


def running(stack: Stack, count: int) -> list[Status]:
    found = [status for status in stack.supervisor.statuses() if status.state == "running"]
    assert len(found) == count
    return found
