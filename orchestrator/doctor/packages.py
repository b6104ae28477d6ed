"""Do the installed versions of Celery and its friends belong together?"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.doctor.finding import Finding, fail, ok

_WATCHED = ("celery", "kombu", "redis", "psycopg", "sqlalchemy", "pydantic", "flower")
_ASKING = {"baton-agents": (), "celery": (), "kombu": ("redis",)}
"""Whose requirements count, and with which extras."""


def check() -> list[Finding]:
    """Compare what is installed with what Baton, Celery and Kombu ask for."""
    faults = [fault for owner, extras in _ASKING.items() for fault in _faults(owner, extras)]
    if faults:
        return faults
    shown = ", ".join(f"{name} {version(name)}" for name in ("celery", "kombu", "redis"))
    return [ok("packages", f"Versions fit together: {shown}.")]


def _faults(owner: str, extras: tuple[str, ...]) -> Iterator[Finding]:
    for text in _requirements(owner):
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        if name not in _WATCHED or not _applies(wanted, extras):
            continue
        try:
            found = version(name)
        except PackageNotFoundError:
            yield fail("packages", f"{owner} needs {name}, which is not installed.", f"pip install '{name}'")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield fail(
                "packages",
                f"{name} is {found}, but {owner} needs {wanted.specifier}.",
                f"pip install '{name}{wanted.specifier}'",
            )


def _requirements(owner: str) -> list[str]:
    try:
        return requires(owner) or []
    except PackageNotFoundError:
        return []  # a checkout that runs without being installed


def _applies(wanted: Requirement, extras: tuple[str, ...]) -> bool:
    return wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras))
