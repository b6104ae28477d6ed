"""CPython in bubblewrap: namespaces of its own, nothing to see but /usr, and nobody's rights.

Limits of processes mean nothing to root, in a namespace or not, so a worker that is root becomes somebody else first.
What a program sends back is as untrusted as the program: nothing is decided by it but what the model hears.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from schemas.errors import Permanent, ToolError
from workers.tools.builtin.limits import SandboxLimits

PROCESSES = 16
"""Processes and threads of a program, with the two that make its sandbox."""
FILES = 64
ROOM = 16_000_000
"""Bytes of all files together, which lie in memory."""
SCRATCH = "/tmp"  # noqa: S108  that of the sandbox
PYTHONS = "/usr/local/bin:/usr/bin"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")

PROGRAM = """
import ast, json, os, resource, sys, traceback
given = json.loads(sys.stdin.buffer.read())
for name, most in given["limits"].items():
    resource.setrlimit(getattr(resource, name), (most, most))
os.write(1, given["mark"].encode())
names, told = {"__name__": "__main__"}, {"result": None}
try:
    tree = ast.parse(given["code"], "<program>")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<program>", "exec"), names)
    if last is not None:
        told["result"] = eval(compile(ast.Expression(last.value), "<program>", "eval"), names)
    said = json.dumps(told, default=repr)
except BaseException as error:
    shown = traceback.format_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
    said = json.dumps({"error": "".join(shown)})
sys.stdout.flush()
os.write(1, given["mark"].encode())
for start in range(0, len(said), 4096):
    os.write(1, said[start:start + 4096].encode())
os._exit(0)
"""


async def run(code: str, limits: SandboxLimits) -> tuple[Any, str]:
    """The last value and what was printed. Raises `ToolError`, and `Permanent` where there can be no sandbox."""
    mark = secrets.token_hex(16)
    given = {"code": code, "mark": mark, "limits": _limits(limits)}
    said = await _said(_command(), json.dumps(given).encode(), limits)
    text = said.decode("utf-8", "replace")
    before, begun, rest = text.partition(mark)
    if not begun:
        raise Permanent(f"bubblewrap cannot make a sandbox here: {before.strip()[-300:]}")
    output, ended, told = rest.rpartition(mark)
    if not ended:
        raise ToolError(f"the program ended before it had a value; it printed: {rest}")
    try:
        found = json.loads(told)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ToolError("the program printed something into its own value")
    if "error" in found:
        raise ToolError(f"{output}{found['error']}")
    return found.get("result"), output


async def _said(command: list[str], given: bytes, limits: SandboxLimits) -> bytes:
    """What the program has said, when it has ended in time. Nothing of it is left, however this is left."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={},
        cwd="/",
        start_new_session=True,
        **_as_whom(limits.user),
    )
    assert process.stdin is not None  # noqa: S101  asked for above
    assert process.stdout is not None  # noqa: S101
    most, said = 2 * limits.max_bytes + 1_000, b""
    try:
        async with asyncio.timeout(limits.seconds):
            process.stdin.write(given)
            process.stdin.close()
            while len(said) <= most and (part := await process.stdout.read(65_536)):
                said += part
            if len(said) <= most:
                await process.wait()
    except TimeoutError:
        raise ToolError(f"the program ran longer than {limits.seconds:g} s") from None
    finally:
        # All of its processes have a kernel-made parent that ends with this one.
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)  # `process.kill` might reap it, for which asyncio waits
        await asyncio.shield(process.wait())
    if len(said) > most:
        raise ToolError(f"the program gave and printed more than {limits.max_bytes} bytes each")
    return said


def _limits(limits: SandboxLimits) -> dict[str, int]:
    return {
        "RLIMIT_AS": limits.memory,
        "RLIMIT_CPU": math.ceil(limits.seconds),
        "RLIMIT_FSIZE": ROOM,
        "RLIMIT_NOFILE": FILES,
        "RLIMIT_NPROC": PROCESSES,
        "RLIMIT_CORE": 0,
    }


def _as_whom(user: str) -> dict[str, Any]:
    """Never root, for whom most limits do not hold. Raises `Permanent` where there is nobody else."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise Permanent(
            f"there is no user {user} to run programs as: useradd --system --shell /usr/sbin/nologin {user}"
        ) from None
    if account.pw_uid == 0:
        raise Permanent(
            f"{user} is root, for whom limits do not hold: name another user, run_python(user=...)"
        )
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _command() -> list[str]:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise Permanent("bubblewrap is not installed here: apt-get install bubblewrap")
    python = shutil.which("python3", path=PYTHONS)
    if python is None:
        raise Permanent("there is no Python below /usr for a sandbox: apt-get install python3")
    return [bwrap, *_walls(), python, "-I", "-c", PROGRAM]


def _walls() -> Iterator[str]:
    """What the sandbox is made of: /usr, a small /tmp, three devices, and no way to another user or network."""
    yield from ("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL")
    yield from ("--die-with-parent", "--new-session", "--hostname", "sandbox")
    yield from ("--setenv", "LANG", "C.UTF-8", "--setenv", "HOME", SCRATCH)
    yield from ("--ro-bind", "/usr", "/usr")
    for folder in ("/bin", "/lib", "/lib64"):
        if Path(folder).is_symlink():
            yield from ("--symlink", os.readlink(folder), folder)
        else:
            yield from ("--ro-bind-try", folder, folder)
    for device in DEVICES:
        yield from ("--dev-bind", device, device)
    yield from ("--size", str(ROOM), "--tmpfs", SCRATCH, "--chdir", SCRATCH, "--remount-ro", "/")
