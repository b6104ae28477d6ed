"""The agents that find the installed packages and read what reviewers need of each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from packaging.utils import canonicalize_name

from examples.dependency_review.installed_files import MAX_METADATA, license_files, read_text
from examples.dependency_review.metadata import Metadata
from examples.dependency_review.models import Environment, Inventory, Material, PackageRef, SourceText
from examples.dependency_review.spdx_expression import normalised, parse
from workers import Permanent, agent

_INFO = ("*.dist-info", "*.egg-info")
_BELOW = ("lib/python*/site-packages", "lib/python*/dist-packages", "Lib/site-packages")


@agent(timeout=60)
def list_packages(environment: Environment) -> Inventory:
    """List the packages installed in a Python environment.

    Raises `Permanent` for a folder without packages, a package that is not installed, or a project licence
    that is not one SPDX id.
    """
    license = _project_license(environment.project_license)
    as_of = environment.as_of or date.today()
    found: dict[str, PackageRef] = {}
    skipped = []
    for folder in _folders(environment.path):
        name, version = _identity(folder)
        key = canonicalize_name(name)
        if _is_editable(folder):
            skipped.append(f"{name}: an editable install, so it is the project itself")
        elif key not in found:  # the first one on the path is the one that is imported
            found[key] = PackageRef(
                name=name, version=version, folder=str(folder), project_license=license, as_of=as_of
            )
    chosen = _chosen(found, environment.only)
    return Inventory(packages=chosen[: environment.limit], skipped=sorted(skipped))


@agent(timeout=60)
def extract(package: PackageRef) -> Material:
    """Read a package's licence texts, metadata and description from its installed files.

    Raises `Permanent` when they are not on this machine.
    """
    folder = Path(package.folder)
    if not folder.exists():
        raise Permanent(
            f"{folder} is not on this machine: run the workers where the environment is installed"
        )
    metadata = _metadata(folder) or SourceText(file=str(folder), text="")
    return Material(
        package=package,
        metadata=metadata,
        licenses=license_files(folder),
        wheel=read_text(folder / "WHEEL", 4_000),
    )


def _project_license(text: str) -> str:
    expression = normalised(text)
    if expression is None or len(parse(expression).ids()) != 1:
        raise Permanent(
            f"project_license={text!r} is not one SPDX licence id, such as MIT or LicenseRef-Proprietary"
        )
    return expression


def _folders(path: str | None) -> Iterator[Path]:
    roots = [Path(entry) for entry in sys.path if entry] if path is None else _roots(Path(path))
    for root in roots:
        folders = (folder for pattern in _INFO for folder in root.glob(pattern))
        # pip renames to `~name` what it could not remove.
        yield from sorted(folder for folder in folders if not folder.name.startswith("~"))


def _roots(path: Path) -> list[Path]:
    if any(True for pattern in _INFO for _ in path.glob(pattern)):
        return [path]
    roots = sorted(root for pattern in _BELOW for root in path.glob(pattern) if root.is_dir())
    if not roots:
        raise Permanent(f"{path} is no virtual environment and no folder of installed packages")
    return roots


def _metadata(folder: Path) -> SourceText | None:
    """`METADATA`, or what stood in its place before wheels."""
    paths = (folder / "METADATA", folder / "PKG-INFO", folder)
    return next((text for path in paths if (text := read_text(path, MAX_METADATA))), None)


def _identity(folder: Path) -> tuple[str, str]:
    """Name and version, from the folder's name where the metadata are missing."""
    source = _metadata(folder)
    metadata = Metadata(source) if source else None
    name, _, version = folder.stem.partition("-")
    told_name, told_version = (metadata.get(field) if metadata else None for field in ("Name", "Version"))
    return (
        told_name.value if told_name else name,
        told_version.value if told_version else version or "unknown",
    )


def _is_editable(folder: Path) -> bool:
    """By PEP 610."""
    source = read_text(folder / "direct_url.json", 10_000)
    try:
        origin = json.loads(source.text) if source else {}
    except ValueError:
        return False
    return isinstance(origin, dict) and bool((origin.get("dir_info") or {}).get("editable"))


def _chosen(found: dict[str, PackageRef], only: list[str] | None) -> list[PackageRef]:
    if only is None:
        return [found[key] for key in sorted(found)]
    keys = {canonicalize_name(name): name for name in only}
    if missing := [name for key, name in keys.items() if key not in found]:
        raise Permanent(f"not installed: {', '.join(sorted(missing))}")
    return [found[key] for key in sorted(keys)]
