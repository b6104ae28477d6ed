"""Child processes that do not outlive their parent, even when it dies by SIGKILL (on Linux).

`spawn` starts this very file as a small script that asks the kernel for a signal at the parent's death, gives
up root when told to, and then becomes the wanted program. No code runs between fork and exec in the parent,
which would not be safe beside threads. This file imports the standard library only, for it also runs without
site-packages.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NoReturn

_PR_SET_PDEATHSIG = 1
_ORPHANED = 70

_spawner: ThreadPoolExecutor | None = None


def spawn(
    argv: Sequence[str],
    *,
    at_parents_death: signal.Signals = signal.SIGKILL,
    account: tuple[int, int] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: int | IO[bytes] = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own, so that Ctrl-C in the terminal reaches only the parent.

    `account` is the (uid, gid) to become, for a parent that is root. `output` receives stdout and stderr.
    Elsewhere than on Linux the child is an ordinary child that nobody ends when its parent is killed.
    """
    command = leashed(argv, at_parents_death=at_parents_death, account=account)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )

    return _lasting_thread().submit(start).result()


def leashed(
    argv: Sequence[str],
    *,
    at_parents_death: signal.Signals = signal.SIGKILL,
    account: tuple[int, int] | None = None,
) -> list[str]:
    """The command that becomes `argv`, for who starts it from a thread that lives as long as this process."""
    uid, gid = account or (-1, -1)
    me, number = str(os.getpid()), str(int(at_parents_death))
    return [sys.executable, "-I", "-S", __file__, me, number, str(uid), str(gid), *argv]


def _lasting_thread() -> ThreadPoolExecutor:
    """One thread that lives as long as this process: the kernel's "parent" is the thread that forked."""
    global _spawner
    if _spawner is None:
        _spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="baton-spawner")
    return _spawner


def _forget_thread() -> None:
    global _spawner
    _spawner = None


os.register_at_fork(after_in_child=_forget_thread)


def _become(parent: int, death_signal: int, uid: int, gid: int, *, argv: list[str]) -> NoReturn:
    # A shell starts what it puts into the background with SIGINT ignored, and that would be inherited.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, because a change of credentials clears this setting.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(_ORPHANED)  # the parent died before the kernel knew of our wish
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    _become(*map(int, sys.argv[1:5]), argv=sys.argv[5:])
