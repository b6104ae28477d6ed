"""Where the files of a local stack may lie: names short enough, reachable for a server that is not root."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

from schemas.errors import Unavailable

# The kernel's limit is 107 bytes for the whole name; Postgres appends ".s.PGSQL.5432.lock".
_LONGEST_SOCKET_DIR = 107 - len("/.s.PGSQL.5432.lock")
_SHARED = Path("/var/tmp")  # noqa: S108 - survives a reboot; what we make there is checked to be ours

Account = tuple[int, int]
"""The (uid, gid) that a server runs as."""


def server_account() -> Account | None:
    """Whom Postgres runs as: None is "as we are", for only root must become somebody else."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def server_home(data_dir: Path) -> Path:
    """The folder for files that the server's account must reach: `data_dir`, or a stand-in under /var/tmp.

    As root a checkout below a folder of mode 700 is normal, and opening that folder to everybody would be
    rude.
    """
    stand_in = _SHARED / _own_name(data_dir)
    # What was once put aside stays there, though the folder may be open to all by now.
    if server_account() is None or (_open_to_all(data_dir) and not stand_in.exists()):
        return data_dir
    return stand_in


def short_dir(home: Path, name: str) -> Path:
    """A folder whose path leaves room for a socket's name: `home/name`, or one in the temporary folder."""
    near = home / name
    if len(os.fsencode(near)) <= _LONGEST_SOCKET_DIR:
        return near
    return Path(tempfile.gettempdir()) / _own_name(near)


def program_home(program: Path) -> Path:
    """An installation that the server's account can execute: the wheel's own, or a copy of it under /var/tmp.

    `program` is the folder in the wheel's package that holds `bin`, `lib` and `share`.
    """
    if server_account() is None or _open_to_all(program):
        return program
    package = program.parent
    changed = (program / "bin" / "postgres").stat().st_mtime_ns
    copy = _SHARED / f"{_own_name(program)}-{changed}"
    if not copy.exists():
        half = Path(tempfile.mkdtemp(dir=_SHARED, prefix="baton-"))
        half.chmod(0o755)
        # The programs look for these libraries at a place relative to their own.
        for part in (Path(package.name, program.name), Path(f"{package.name}.libs")):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, half / part, symlinks=True)
        try:
            half.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(half)
    _refuse_strangers(copy, os.geteuid())
    return copy / package.name / program.name


def make_home(home: Path) -> None:
    """Create a server's home, which other users may pass through but not list.

    Raises `Unavailable` when another user of the machine owns it.
    """
    home.mkdir(mode=0o711, parents=True, exist_ok=True)
    if home.parent == _SHARED:
        _refuse_strangers(home, os.geteuid())


def make_private(folder: Path, account: Account | None) -> None:
    """Create `folder` for one account alone; a folder that belongs to somebody else is refused.

    Raises `Unavailable` when another user of the machine owns it.
    """
    if folder.parent != Path(tempfile.gettempdir()):
        folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = account[0] if account else os.geteuid()
    if account and folder.lstat().st_uid == os.geteuid():
        os.chown(folder, *account)
    _refuse_strangers(folder, owner)


def _refuse_strangers(folder: Path, owner: int) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise Unavailable(
            f"{folder} belongs to another user.",
            next_step=f"remove {folder} or choose another BATON_DATA_DIR",
        )


def _open_to_all(folder: Path) -> bool:
    """Whether any user can walk to `folder`, which need not exist yet."""
    return all(
        not above.exists() or above.stat().st_mode & stat.S_IXOTH for above in (folder, *folder.parents)
    )


def _own_name(folder: Path) -> str:
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return f"baton-{os.geteuid()}-{digest}"
