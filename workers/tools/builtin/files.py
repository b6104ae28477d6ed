"""Reading files below one folder, and nothing else."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Unpack

from pydantic import BaseModel

from schemas.errors import DefinitionError, Fault, Permanent, ToolError
from workers.storable import storable
from workers.tools.builtin.options import Options
from workers.tools.declared import Tool, tool

CLOSED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Nothing is written, no link is followed, and no pipe is waited for."""

LOOKED_AT = 20_000
"""Entries of folders after which a listing ends, whether they fit its pattern or not."""

LEVELS = 50
"""Folders below the one that is listed into which a listing goes down."""


class Part(BaseModel):
    """A text file, or a part of it."""

    text: str
    size: int
    """Bytes of the whole file."""
    next: int | None
    """Where to go on; None at its end."""


class Listing(BaseModel):
    """What lies in a folder: paths below the root, folders with a slash at their end."""

    paths: list[str]
    more: bool
    """There is more than the tool may list."""


def read_file(
    root: str | Path, *, max_bytes: int = 100_000, name: str = "read_file", **options: Unpack[Options]
) -> Tool:
    """Make a tool that reads text files below `root`, at most `max_bytes` of them at a time.

    Links are followed within the root only. What is no regular file, or no UTF-8 text, is refused. The root is looked
    for in the worker, when the tool is called. `options` are those of `workers.tool`.
    """
    _check(name, max_bytes)
    below = _Root(root)

    def read(path: str, start: int = 0) -> Part:
        with below.opened(path) as found:
            about = os.fstat(found)
            if not stat.S_ISREG(about.st_mode):
                raise ToolError(f"{path} is no regular file")
            if start < 0 or start > about.st_size:
                raise ToolError(f"{path} has {about.st_size} bytes: start is not among them")
            data = os.pread(found, max_bytes, start)
        text, used = _text(path, data)
        if data and not used:  # half of a character, and no more: to go on there would never end
            raise ToolError(f"{path} is no UTF-8 text")
        end = start + used
        return Part(text=text, size=about.st_size, next=end if end < about.st_size else None)

    told = f"Read a text file, {max_bytes} bytes at a time; start is the byte to begin with."
    return tool(name=name, description=told, version=repr((str(root), max_bytes)), **options)(read)


def list_files(
    root: str | Path, *, most: int = 500, name: str = "list_files", **options: Unpack[Options]
) -> Tool:
    """Make a tool that lists what lies below `root`, `most` paths at a time. Links are neither shown nor followed."""
    _check(name, most)
    below = _Root(root)

    def listed(folder: str = "", pattern: str = "*", deep: bool = False) -> Listing:
        paths: list[str] = []
        with below.opened(folder) as found:
            if not stat.S_ISDIR(os.fstat(found).st_mode):
                raise ToolError(f"{folder} is no folder")
            walked = _walked(found, folder.strip("/"), LEVELS if deep else 0)
            for number, (path, entry) in enumerate(walked):
                if number == LOOKED_AT:
                    return Listing(paths=paths, more=True)
                if not fnmatch(entry, pattern):
                    continue
                if len(paths) == most:
                    return Listing(paths=paths, more=True)
                paths.append(storable(path))
        return Listing(paths=paths, more=False)

    told = "List files, and folders with a slash at their end. pattern: of names (*.md); deep: all below."
    return tool(name=name, description=told, version=repr((str(root), most)), **options)(listed)


def _check(name: str, most: int) -> None:
    if most < 1:
        raise DefinitionError(f"tool {name!r}", [Fault("", "its limit must be positive")])


class _Root:
    """The folder below which everything is."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """A descriptor of what this path means. Raises `ToolError`, and `Permanent` where there is no such root.

        Links are resolved first, and the result is walked from the root, folder by folder, without following any: a
        link that somebody puts there meanwhile is an error.
        """
        try:
            root = Path(os.path.realpath(self._root, strict=True))
            at = os.open(root, CLOSED | os.O_DIRECTORY)
        except OSError as error:
            raise Permanent(f"the folder of a tool cannot be opened: {error}") from None
        try:
            for part in self._inside(root, path):
                inner = os.open(part, CLOSED, dir_fd=at)
                os.close(at)
                at = inner
            yield at
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "it cannot be read"
            raise ToolError(f"{storable(path)}: {reason}") from None
        finally:
            os.close(at)

    def _inside(self, root: Path, path: str) -> tuple[str, ...]:
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise ToolError(f"{storable(path)}: a path begins at the root and never leads up")
        resolved = Path(os.path.realpath(root / path))
        if not resolved.is_relative_to(root):
            raise ToolError(f"{storable(path)} leads out of the root")
        return resolved.relative_to(root).parts


def _walked(folder: int, path: str, levels: int) -> Iterator[tuple[str, str]]:
    """The path and the name of each file and folder, in order."""
    with os.scandir(folder) as entries:
        found = sorted((one for one in entries if not one.is_symlink()), key=lambda one: one.name)
    for entry in found:
        below = f"{path}/{entry.name}" if path else entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield below, entry.name
            continue
        yield f"{below}/", entry.name
        if levels:
            yield from _below(folder, entry.name, below, levels - 1)


def _below(parent: int, name: str, path: str, levels: int) -> Iterator[tuple[str, str]]:
    try:
        folder = os.open(name, CLOSED | os.O_DIRECTORY, dir_fd=parent)
    except OSError:
        return  # it is shown, and closed to this user or gone
    try:
        yield from _walked(folder, path, levels)
    finally:
        os.close(folder)


def _text(path: str, data: bytes) -> tuple[str, int]:
    """The text, and how many bytes of the data it is: a character may be cut at its end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(data)
    except UnicodeDecodeError:
        raise ToolError(f"{path} is no UTF-8 text") from None
    if "\0" in text:
        raise ToolError(f"{path} is no text")
    return text, len(data) - len(decoder.getstate()[0])
