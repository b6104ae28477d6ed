"""Reads installed text files: bounded, whatever their encoding, with the line numbers that editors show."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath

from examples.dependency_review.models import LicenseFile, SourceText

MAX_LICENSE = 64_000
"""Characters read of one licence file; the longest common text, AGPL-3.0, has 34,000."""
MAX_METADATA = 256_000
MAX_LICENSES = 300_000
"""Characters read of all licence files of one package."""
MAX_FILES = 24

_LICENSE_NAME = re.compile(
    r"^(licen[cs]es?|copying|copyright|notices?|unlicense|patents)([._-].*)?$|^.*[._-](licen[cs]e|copying)(\.\w+)?$",
    re.I,
)
_CODE = re.compile(r"\.(py|pyc|pyi|pyx|so|json|ya?ml|toml|html|js|c|h|rs|sh|xml|png|svg|cfg|gz)$", re.I)
_NEWLINE = re.compile(r"\r\n|\r")
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_text(path: Path, most: int) -> SourceText | None:
    """At most `most` characters, cut after a whole line; None for what is no regular, readable file."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            raw = file.read(4 * most + 1)
    except OSError:
        return None
    text = _NEWLINE.sub("\n", _decode(raw)).replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(text) <= most and len(raw) <= 4 * most:
        return SourceText(file=str(path), text=text)
    cut = text[:most]
    return SourceText(file=str(path), text=cut[: cut.rfind("\n") + 1] or cut, truncated=True)


def _decode(raw: bytes) -> str:
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character cut in two at the end of what was read is no sign of another encoding.
        if error.start >= len(raw) - 3:
            return raw[: error.start].decode("utf-8")
        return raw.decode("latin-1")


def license_files(folder: Path) -> list[LicenseFile]:
    """The licence files of a package, its own before those of what it bundles; each text once."""
    found: list[LicenseFile] = []
    left = MAX_LICENSES
    for path, bundled in sorted(_candidates(folder), key=lambda one: (one[1], str(one[0]))):
        source = read_text(path, min(MAX_LICENSE, left))
        if source is None or any(source.text == one.text for one in found):
            continue
        found.append(
            LicenseFile(file=source.file, text=source.text, truncated=source.truncated, bundled=bundled)
        )
        left -= len(source.text)
        if left <= 0 or len(found) == MAX_FILES:
            break
    return found


def _candidates(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Paths of licence files, and whether they belong to something bundled."""
    seen = set()
    if folder.is_dir():
        for path in folder.rglob("*"):
            if _named_like_license(path.name):
                seen.add(path)
                yield path, _is_bundled(path.relative_to(folder).parts)
    for file in _recorded(folder):
        path = folder.parent / file
        # A record may point anywhere; nothing outside the environment is read.
        inside = ".." not in file.parts and not file.is_absolute() and file.parts[:1] != (folder.name,)
        if inside and path not in seen and _named_like_license(file.name):
            yield path, len(file.parts) > 2


def _is_bundled(parts: tuple[str, ...]) -> bool:
    """Within `*.dist-info`: what lies deeper than `licenses/`, unless it is REUSE's folder `LICENSES`."""
    inner = parts[1:] if parts[0] == "licenses" else parts
    return len(inner) > 1 and inner[0].upper() not in ("LICENSES", "LICENSE")


def _recorded(folder: Path) -> list[PurePosixPath]:
    """The package's files by its `RECORD`, or none where that is missing or broken."""
    try:
        return [PurePosixPath(file) for file in Distribution.at(folder).files or ()]
    except (OSError, ValueError, TypeError, StopIteration):
        return []


def _named_like_license(name: str) -> bool:
    return bool(_LICENSE_NAME.match(name)) and not _CODE.search(name)
