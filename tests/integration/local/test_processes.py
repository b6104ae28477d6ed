"""The supervisor: crashed processes come back, asked ones drain, and nothing ever survives it."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator

import psutil
import pytest
from rich.console import Console

from orchestrator.local.child import Command, Status
from orchestrator.local.lines import Lines
from orchestrator.local.processes import Supervisor
from schemas.errors import Conflict, NotFound
from tests.support import Process, Processes, eventually

# Says when it is asked to end, and only then ends.
POLITE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), sys.exit(0)))
print("ready", flush=True)
while True: signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: signal.pause()
"""
# A process with a child of its own that ignores SIGTERM.
PARENT = """
import signal, subprocess, sys

program = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", program])
print("ready with child", child.pid, flush=True)
signal.pause()
"""
SUPERVISOR = """
import sys
from orchestrator.local.child import Command
from orchestrator.local.processes import Supervisor
supervisor = Supervisor(drain=float(sys.argv[1]))
for number, program in enumerate(sys.argv[2:]):
    supervisor.add(Command(f"p{number}", (sys.executable, "-c", program)))
supervisor.run()
print("supervisor ended", flush=True)
"""


def python(name: str, code: str) -> Command:
    return Command(name, (sys.executable, "-c", code))


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(output: io.StringIO) -> Iterator[Supervisor]:
    lines = Lines(Console(file=output, width=200))
    with Supervisor(lines, drain=10.0, backoff=0.05) as made:
        yield made


def status(supervisor: Supervisor, name: str) -> Status | None:
    return next((found for found in supervisor.statuses() if found.name == name), None)


def pid_of(supervisor: Supervisor, name: str) -> int:
    found = status(supervisor, name)
    assert found is not None
    assert found.pid is not None
    return found.pid


def test_lines_carry_the_name_of_their_process(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.add(python("longer-name", POLITE))
    eventually(lambda: "longer-name | ready" in output.getvalue())
    supervisor.add(python("two", "import sys; sys.stderr.write('[red]as it is[/red]')"))
    eventually(lambda: "two         | [red]as it is[/red]" in output.getvalue())


def test_a_crashed_process_starts_again_and_this_is_said(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.add(python("worker", POLITE))
    first = eventually(lambda: pid_of(supervisor, "worker"))

    psutil.Process(first).kill()

    eventually(lambda: pid_of(supervisor, "worker") != first)
    eventually(lambda: "was killed by SIGKILL; starting it again in 0.1 s" in output.getvalue())


def test_a_crash_loop_slows_down(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.add(python("broken", "raise SystemExit(3)"))
    eventually(lambda: "ended with exit code 3; starting it again in 0.4 s" in output.getvalue())
    for pause in ("0.1 s", "0.1 s", "0.2 s", "0.4 s"):
        assert pause in output.getvalue()
    supervisor.remove("broken")
    eventually(lambda: status(supervisor, "broken") is None)


def test_a_removed_process_drains(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.add(python("worker", POLITE))
    eventually(lambda: "ready" in output.getvalue())

    supervisor.remove("worker")

    eventually(lambda: status(supervisor, "worker") is None)
    assert "drained" in output.getvalue()
    with pytest.raises(NotFound, match="worker"):
        supervisor.remove("worker")


def test_a_name_is_taken_once(supervisor: Supervisor) -> None:
    supervisor.add(python("worker", POLITE))
    with pytest.raises(Conflict, match="worker"):
        supervisor.add(python("worker", POLITE))


def test_a_replaced_process_drains_before_the_new_one_starts(
    supervisor: Supervisor, output: io.StringIO
) -> None:
    supervisor.add(python("worker", POLITE))
    eventually(lambda: "ready" in output.getvalue())

    supervisor.replace(python("worker", "print('second'); import signal; signal.pause()"))

    assert "drained" in output.getvalue()
    eventually(lambda: supervisor.statuses()[0].state == "running")


def test_who_does_not_drain_in_time_is_killed(output: io.StringIO) -> None:
    with Supervisor(Lines(Console(file=output)), drain=0.2) as supervisor:
        supervisor.add(python("worker", STUBBORN))
        eventually(lambda: "ready" in output.getvalue())
        pid = pid_of(supervisor, "worker")
    assert not psutil.pid_exists(pid)
    assert "did not finish within 0.2 s" in output.getvalue()


def test_children_of_a_process_go_with_it(supervisor: Supervisor, output: io.StringIO) -> None:
    supervisor.add(python("worker", PARENT))
    eventually(lambda: "child" in output.getvalue())
    grandchild = int(output.getvalue().rsplit("child", 1)[1].split()[0])

    supervisor.stop()

    eventually(lambda: not _runs(grandchild))


def test_stop_may_come_twice_and_ends_the_adding(supervisor: Supervisor) -> None:
    supervisor.add(python("worker", POLITE))
    supervisor.stop()
    supervisor.stop()
    assert supervisor.statuses() == []
    with pytest.raises(Conflict, match="stopped"):
        supervisor.add(python("late", POLITE))


@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_all_children(processes: Processes, wish: signal.Signals) -> None:
    main = run_supervisor(processes, "10", POLITE, POLITE)

    main.signal(wish)

    assert main.wait() == 0
    assert main.text().count("drained") == 2
    assert main.text().endswith("supervisor ended\n")


def test_a_second_ctrl_c_does_not_wait(processes: Processes) -> None:
    main = run_supervisor(processes, "60", STUBBORN, STUBBORN)
    children = psutil.Process(main.pid).children(recursive=True)

    main.signal(signal.SIGINT)
    eventually(lambda: "again kills" in main.text())
    main.signal(signal.SIGINT)

    assert main.wait(15) == 0
    assert not [child for child in children if child.is_running()]


def test_everything_dies_with_a_supervisor_killed_by_sigkill(processes: Processes) -> None:
    main = run_supervisor(processes, "10", POLITE, STUBBORN, PARENT)
    children = psutil.Process(main.pid).children(recursive=True)
    assert len(children) >= 4

    main.handle.kill()

    eventually(lambda: not [child for child in children if _runs(child.pid)])


def run_supervisor(processes: Processes, drain: str, *programs: str) -> Process:
    main = processes.python(SUPERVISOR, drain, *programs, name="supervisor")
    eventually(lambda: main.text().count("ready") == len(programs))
    return main


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
