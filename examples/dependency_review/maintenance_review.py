"""The maintenance reviewer: is anybody looking after this package, and does it keep up with Python?

It reads installed files only, so it sees what the release says about itself, not what happened since.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from examples.dependency_review.metadata import Field, Metadata, cite
from examples.dependency_review.models import Citation, Finding, MaintenanceReview, Material, Severity
from examples.dependency_review.python_releases import build_year, end_of_life, supported
from workers import agent

STALE_YEARS = 3
"""Age in years from which a dated release or build tool is worth a remark."""
_ABANDONED = re.compile(
    r"\b(?:this|the) (?:\w+ )?(?:project|package|library|repository|repo|module)\b[^.]{0,30}?"
    r"\b(?:is|has been|was) (?:now |officially |hereby )*"
    r"(?:deprecated|archived|abandoned|discontinued|unmaintained|obsolete|retired"
    r"|no longer (?:actively )?(?:maintained|developed)|not (?:actively )?maintained"
    r"|looking for (?:a )?(?:new )?maintainer)"
    r"|\b(?:project|package|library) (?:is )?(?:in maintenance mode|maintenance only)",
    re.I,
)
_ANNOUNCED = re.compile(
    r"^\W*(?:deprecated|unmaintained|no longer maintained|archived)\W*(?:$|[.:!,]\s)", re.I
)
_TOP = 25
"""Lines of the description in which such a word is about the package, not about a part of it."""
_LOOKED_AT = 80
"""Lines of the description in which an abandoned project says so; further down are change logs."""
_GENERATOR = re.compile(r"^Generator:\s*(\S+)\s*\(?v?([\d.]+)", re.M)


@agent(timeout=60)
def maintenance_review(material: Material) -> MaintenanceReview:
    """Look for signs that a package is not looked after, or does not keep up with Python."""
    metadata, as_of = Metadata(material.metadata), material.package.as_of
    status = next(iter(metadata.classifiers("Development Status")), None)
    requires = metadata.get("Requires-Python")
    newest = _newest_python(metadata)
    return MaintenanceReview(
        package=material.package.name,
        version=material.package.version,
        status=status.value if status else None,
        requires_python=requires.value if requires else None,
        newest_python=newest.value if newest else None,
        findings=[
            *_status(metadata, status),
            *_version(metadata, material.package.version, as_of),
            *_python(metadata, requires, as_of),
            *_named_pythons(metadata, newest, as_of),
            *_dependencies(metadata),
            *_words(metadata),
            *_urls(metadata),
            *_build(material, as_of),
        ],
    )


def _status(metadata: Metadata, status: Field | None) -> Iterator[Finding]:
    if status is None:
        return
    number, name = status.value[:1], status.value[4:]
    severity: Severity = "major" if number == "7" else "minor" if number in ("1", "2") else "info"
    yield _finding("maintenance.status", severity, f"Calls itself {name}", metadata.at(status))


def _version(metadata: Metadata, text: str, as_of: date) -> Iterator[Finding]:
    field = metadata.get("Version")
    place = metadata.at(field) if field else metadata.nowhere()
    try:
        version = Version(text)
    except InvalidVersion:
        yield _finding("maintenance.version", "minor", f"{text!r} is no version by PEP 440", place)
        return
    if version.is_prerelease:
        yield _finding("maintenance.prerelease", "minor", f"{text} is a pre-release", place)
    year = version.release[0]
    if 2000 <= year <= as_of.year - STALE_YEARS:
        message = f"By its calendar version a release of {year}, {as_of.year - year} years old"
        yield _finding("maintenance.old-release", "minor", message, place)


def _python(metadata: Metadata, requires: Field | None, as_of: date) -> Iterator[Finding]:
    """`Requires-Python` against the versions that are supported."""
    alive = supported(as_of)
    if requires is None:
        message = "Does not say which Python versions it needs (Requires-Python)"
        yield _finding("maintenance.requires-python", "minor", message, metadata.nowhere())
        return
    try:
        wanted = SpecifierSet(requires.value)
    except InvalidSpecifier:
        message = f"Requires-Python {requires.value!r} cannot be read"
        yield _finding("maintenance.requires-python", "minor", message, metadata.at(requires))
        return
    fitting = [one for one in alive if any(wanted.contains(f"{one}.{patch}") for patch in (0, 99))]
    if alive and not fitting:
        message = f"Requires-Python {requires.value} admits no Python that is still supported"
        yield _finding("maintenance.old-python", "major", message, metadata.at(requires))
    elif alive and alive[-1] not in fitting:
        message = f"Requires-Python {requires.value} shuts out Python {alive[-1]}"
        yield _finding("maintenance.python-cap", "minor", message, metadata.at(requires))


def _newest_python(metadata: Metadata) -> Field | None:
    """The classifier that names the newest Python version."""
    named = [
        one
        for one in metadata.classifiers("Programming Language")
        if re.fullmatch(r"Python :: \d\.\d+", one.value)
    ]
    fields = [Field(one.name, one.value.removeprefix("Python :: "), one.line) for one in named]
    return max(fields, key=lambda one: Version(one.value), default=None)


def _named_pythons(metadata: Metadata, newest: Field | None, as_of: date) -> Iterator[Finding]:
    ended = end_of_life(newest.value) if newest else None
    if newest and ended and ended < as_of:
        message = f"The newest Python it names is {newest.value}, whose support ended on {ended}"
        severity: Severity = "major" if newest.value.startswith("2.") else "minor"
        yield _finding("maintenance.old-python", severity, message, metadata.at(newest))


def _dependencies(metadata: Metadata) -> Iterator[Finding]:
    name = metadata.get("Name")
    own = canonicalize_name(name.value) if name else ""
    for field in metadata.all("Requires-Dist"):
        try:
            wanted = Requirement(field.value)
        except InvalidRequirement:
            message = f"Its dependency {field.value!r} cannot be read"
            yield _finding("maintenance.dependency", "minor", message, metadata.at(field))
            continue
        if "extra" in str(wanted.marker or ""):
            continue
        if wanted.url:
            message = f"Takes {wanted.name} from a URL, not from an index"
            yield _finding("maintenance.dependency-url", "major", message, metadata.at(field))
        elif _pinned(wanted) and not _sibling(own, wanted.name):
            message = (
                f"Pins {wanted.name}{wanted.specifier}: no fix of it can be installed beside this release"
            )
            yield _finding("maintenance.pin", "minor", message, metadata.at(field))


def _pinned(wanted: Requirement) -> bool:
    return any(one.operator in ("==", "===") and not one.version.endswith(".*") for one in wanted.specifier)


def _sibling(own: str, other: str) -> bool:
    """Packages that are released together, such as pydantic and pydantic-core, pin each other on purpose."""
    name = canonicalize_name(other)
    return name.split("-")[0] == own.split("-")[0]


def _words(metadata: Metadata) -> Iterator[Finding]:
    """Where the package says that nobody looks after it."""
    text, first = metadata.description
    summary = metadata.get("Summary")
    lines = [(summary.line, summary.value)] if summary else []
    lines += list(enumerate(text.split("\n")[:_LOOKED_AT], first))
    for index, (line, words) in enumerate(lines):
        if _ABANDONED.search(words) or (index < _TOP and _ANNOUNCED.search(words)):
            message = "Says of itself that it is deprecated or no longer maintained"
            yield _finding("maintenance.abandoned", "major", message, cite(metadata.source, line))
            return


def _urls(metadata: Metadata) -> Iterator[Finding]:
    if not any(metadata.all(name) for name in ("Project-URL", "Home-page", "Download-URL")):
        message = "Names no project page, so there is nowhere to look for its source or to report a fault"
        yield _finding("maintenance.no-url", "minor", message, metadata.nowhere())


def _build(material: Material, as_of: date) -> Iterator[Finding]:
    """A wheel built with an old tool is itself old, or its build is not looked after."""
    match = _GENERATOR.search(material.wheel.text) if material.wheel else None
    if not match or not material.wheel:
        return
    version = tuple(int(part) for part in match[2].split(".") if part)
    year = build_year("bdist_wheel" if match[1] == "wheel" else match[1], version)
    if year and as_of.year - year > STALE_YEARS:
        line = material.wheel.text.count("\n", 0, match.start()) + 1
        message = f"Built with {match[1]} {match[2]}, a tool of {year}: probably a release of that time"
        yield _finding("maintenance.old-build", "info", message, cite(material.wheel, line))


def _finding(rule: str, severity: Severity, message: str, place: Citation) -> Finding:
    return Finding(rule=rule, severity=severity, message=message, citations=[place])
