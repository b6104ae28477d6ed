"""The tool that runs programs, against programs that want out. All are small: none allocates or forks freely."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from schemas.errors import DefinitionError, Permanent, ToolError
from tests.integration.tools.using import use, used
from tests.support import eventually
from workers.tools import run_python
from workers.tools.builtin import bubblewrap
from workers.tools.declared import Tool

MONTY = run_python(timeout=0.5, memory=10_000_000, max_bytes=1_000)
REFUSALS = ("apt-get install bubblewrap", "cannot make a sandbox here", "apt-get install python3")
"""What is said where CPython cannot be walled in."""


def cpython(**options: Any) -> Tool | None:
    """The tool on CPython; None where this machine allows no such walls, which is told as it should be."""
    tool = run_python(engine="cpython", **({"timeout": 20} | options))
    if _walls_stand():
        assert use(tool, code="1 + 1") == {"result": 2, "output": ""}
        return tool
    with pytest.raises(Permanent, match="|".join(REFUSALS)):
        use(tool, code="1 + 1")
    return None


def _walls_stand() -> bool:
    """Whether bubblewrap is installed, and may do for nobody what it is there for."""
    if shutil.which("bwrap") is None or shutil.which("python3", path=bubblewrap.PYTHONS) is None:
        return False
    nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    probe = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    return (
        subprocess.run(probe, capture_output=True, check=False, cwd="/", timeout=20, **nobody).returncode == 0
    )  # type: ignore[call-overload, no-any-return]


# --- what both give -------------------------------------------------------------------------------------------


def test_the_last_value_and_what_was_printed_come_back() -> None:
    for tool in filter(None, (MONTY, cpython())):
        assert use(tool, code="print('grüße')\nx = 2\n[x, {'a': (1, None)}]") == {
            "result": [2, {"a": [1, None]}],
            "output": "grüße\n",
        }
        assert use(tool, code="x = 1")["result"] is None
        assert use(tool, code="float('nan')")["result"] is None
        assert use(tool, code="'a\\0b'")["result"] == "a\N{REPLACEMENT CHARACTER}b"
        for code, reason in [
            ("1 / 0", "ZeroDivisionError"),
            ("x = (", "SyntaxError"),
            ("\ud800", "surrogates"),
        ]:
            with pytest.raises(ToolError, match=reason):
                use(tool, code=code)


def test_programs_know_nothing_of_each_other() -> None:
    for tool in filter(None, (MONTY, cpython())):
        use(tool, code="secret = 1")
        with pytest.raises(ToolError, match="NameError"):
            use(tool, code="secret")


def test_what_is_too_much_is_refused() -> None:
    for tool in filter(None, (MONTY, cpython(max_bytes=1_000))):
        for code in ("'x' * 2_000", "print('x' * 5_000)"):
            with pytest.raises(ToolError, match=r"bytes"):
                use(tool, code=code)


def test_what_would_be_too_much_is_not_written_out_first() -> None:
    grown = "\nfor _ in range(40): x = [x, x]\nx"  # a terabyte as text
    held = "\nclass A:\n  def __init__(self, x): self.x = x\nfor _ in range(40): x = A([x, x])\nx"
    for code in (
        f"x = 'a'{grown}",
        f"x = 'a'{held}",
        "x = {'a': 1}\nfor _ in range(40): x = {'a': x, 'b': x}\nx",
    ):
        with pytest.raises(ToolError, match="more than 1000 bytes"):
            use(MONTY, code=code)


def test_an_error_tells_how_it_begins_and_how_it_ends() -> None:
    for tool in filter(None, (MONTY, cpython(max_bytes=1_000))):
        with pytest.raises(ToolError, match=r"(?s)Traceback.*\[\.\.\.\] x+$|bytes each") as raised:
            use(tool, code="raise ValueError('x' * 100_000)")
        assert len(str(raised.value)) < 1_100


def test_a_definition_with_faults_is_refused() -> None:
    for options in ({"engine": "pypy"}, {"timeout": 0}, {"memory": 0}):
        with pytest.raises(DefinitionError):
            run_python(**options)  # type: ignore[arg-type]


# --- the small Python -----------------------------------------------------------------------------------------


def test_the_small_python_reaches_nothing() -> None:
    for code in (
        "open('/etc/passwd').read()",
        "import os\nos.environ['PATH']",
        "import os\nos.listdir('/')",
        "import os\nos.system('id')",
        "import socket",
        "import subprocess",
        "__import__('os')",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
    ):
        with pytest.raises(ToolError):
            print(code, use(MONTY, code=code))


def test_the_small_python_is_stopped() -> None:
    for code, reason in [
        ("while True: pass", "time limit"),
        ("x = 'a' * 10\nwhile True: x = x + x", "memory limit"),
        ("2 ** (10 ** 9)", "memory limit"),
        ("def f(): return f()\nf()", "recursion"),
        ("while True: print('x' * 100)", "limit"),
    ]:
        with pytest.raises(ToolError, match=reason):
            use(MONTY, code=code)
    began = time.monotonic()
    assert use(MONTY, code="import time\ntime.sleep(60)\n1")["result"] == 1  # a sleep has no use
    assert time.monotonic() - began < 5


def test_a_small_program_that_is_given_up_is_killed() -> None:
    async def given_up() -> None:
        running = asyncio.create_task(used(run_python(timeout=60), code="while True: pass"))
        await asyncio.to_thread(eventually, lambda: _busy("monty"))
        running.cancel()
        await asyncio.wait([running])
        assert await used(MONTY, code="1") == {"result": 1, "output": ""}
        await asyncio.to_thread(eventually, lambda: not _busy("monty"))

    asyncio.run(given_up())


def _busy(name: str) -> list[psutil.Process]:
    """Children of this process that compute."""
    return [one for one in psutil.Process().children() if _computes(one, name)]


def _computes(one: psutil.Process, name: str) -> bool:
    try:
        return name in one.name() and one.cpu_percent(0.05) > 20
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return False


# --- CPython in bubblewrap ------------------------------------------------------------------------------------


def test_without_bubblewrap_or_somebody_to_be_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    there = "/usr/bin/bwrap"
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "bwrap" else name)
    with pytest.raises(Permanent, match="bubblewrap is not installed here: apt-get install bubblewrap"):
        use(run_python(engine="cpython"), code="1")

    monkeypatch.setattr(shutil, "which", lambda name, path=None: there if name == "bwrap" else name)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Permanent, match=r"no user no-such-user .*: useradd --system .* no-such-user"):
        use(run_python(engine="cpython", user="no-such-user"), code="1")
    with pytest.raises(Permanent, match="root, for whom limits do not hold"):
        use(run_python(engine="cpython", user="root"), code="1")


def test_cpython_sees_its_own_room_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_SECRET", "secret")
    (tmp_path / "secret").write_text("secret")
    if (tool := cpython()) is None:
        return

    seen = use(
        tool, code="import os\n[sorted(os.listdir('/')), os.listdir('/tmp'), sorted(os.environ), os.getpid()]"
    )

    root, scratch, environment, pid = seen["result"]
    assert set(root) <= {"bin", "dev", "lib", "lib64", "tmp", "usr"}
    assert scratch == []
    assert set(environment) <= {"HOME", "LANG", "LC_CTYPE", "PWD"}
    assert pid < 10  # processes of this machine are not there
    listening = socket.create_server(("127.0.0.1", 0))
    here = listening.getsockname()
    for code in (
        f"open({str(tmp_path / 'secret')!r})",
        "open('/etc/passwd')",
        "open('/proc/self/environ')",
        "open('/usr/x', 'w')",
        "open('/x', 'w')",
        "open('/dev/x', 'w')",
        f"import socket\nsocket.create_connection({here}, timeout=2)",
        "import os\nos.setuid(0)",
        "import os\nos.chroot('/tmp')",
        "import subprocess\nsubprocess.run(['/usr/bin/unshare', '-U', 'true'], check=True)",
        "import subprocess\nsubprocess.run(['/usr/bin/mount', '-t', 'tmpfs', 'x', '/tmp'], check=True)",
    ):
        with pytest.raises(ToolError, match="Error"):
            print(code, use(tool, code=code))
    listening.close()


def test_cpython_is_nobody_outside_either() -> None:
    if (tool := cpython()) is None:
        return

    async def looked_at() -> set[int]:
        running = asyncio.create_task(used(tool, code="import time\ntime.sleep(60)"))
        await asyncio.to_thread(eventually, lambda: len(_family()) >= 3)
        owners = {uid for one in _family() for uid in one.uids()}
        running.cancel()
        await asyncio.wait([running])
        await asyncio.to_thread(eventually, lambda: _family() == [])
        return owners

    expected = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    assert asyncio.run(looked_at()) == {expected}


def _family() -> list[psutil.Process]:
    """The processes of sandboxes of this process."""
    found = [one for one in psutil.Process().children() if one.name() == "bwrap"]
    return found + [inner for one in found for inner in one.children(recursive=True)]


THREADS = """
import threading
threading.stack_size(65_536)
done, begun = threading.Event(), 0
try:
    for _ in range(40):
        threading.Thread(target=done.wait, daemon=True).start()
        begun += 1
except RuntimeError:
    pass
done.set()
begun
"""


def test_cpython_has_its_limits() -> None:
    if (tool := cpython(memory=100_000_000)) is None:
        return

    assert use(tool, code=THREADS)["result"] < bubblewrap.PROCESSES
    for code, reason in [
        ("x = bytearray(150_000_000)", "MemoryError"),
        (
            "f = open('/tmp/x', 'wb')\nfor _ in range(20): f.write(bytes(1_000_000))",
            "OSError|SIGXFSZ|ended before",
        ),
        ("for n in range(20): open(f'/tmp/{n}', 'wb').write(bytes(1_000_000))", "No space left"),
        ("files = [open('/dev/null') for _ in range(100)]", "Too many open files"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (99, 99))", "not allowed"),
        ("import os\nos._exit(0)", "ended before it had a value"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ended before it had a value"),
    ]:
        with pytest.raises(ToolError, match=reason):
            use(tool, code=code)


@pytest.mark.parametrize("value", ["3", "[1]", "'[' * 40_000", "'{'"])
def test_a_program_that_writes_its_value_itself_gives_none(value: str) -> None:
    if (tool := cpython()) is None:
        return

    with pytest.raises(ToolError, match="into its own value"):
        use(
            tool,
            code=f"import os, sys\nmark = sys.modules['__main__'].given['mark']\n"
            f"os.write(1, (mark + str({value})).encode())\nos._exit(0)",
        )


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import os, time\nos.close(1); os.close(2)\ntime.sleep(60)",
        "import os, time\nif os.fork(): os._exit(0)\nos.setsid(); time.sleep(60)",
    ],
)
def test_nothing_of_a_program_outlives_its_time(code: str) -> None:
    if cpython() is None:
        return
    began = time.monotonic()

    with pytest.raises(ToolError):
        use(run_python(engine="cpython", timeout=1), code=code)

    assert time.monotonic() - began < 10
    eventually(lambda: _family() == [])
