"""The tests of the installed Celery, from the source that its release consists of."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import celery


def fetched() -> Path:
    """A folder with Celery's package `t`, kept in this environment; fetched when it is not there yet."""
    folder = Path(sys.prefix) / "celery-suite" / celery.__version__
    if not (folder / "t" / "integration").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _unpack(_download(folder), folder)
    return folder


def _download(folder: Path) -> Path:
    """The source archive, from wherever pip gets its packages."""
    wanted = f"celery=={celery.__version__}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        "celery",
        wanted,
    ]
    subprocess.run([*command, "--dest", str(folder)], check=True)
    return next(folder.glob("celery-*.tar.gz"))


def _unpack(archive: Path, folder: Path) -> None:
    """Only the tests: the package itself is the one that is installed."""
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            top, _, path = member.name.partition("/")
            if top and path.startswith("t/"):
                member.name = path
                opened.extract(member, folder, filter="data")
