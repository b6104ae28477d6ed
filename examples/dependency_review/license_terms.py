"""What licences ask for, and which of them go together.

Sources: the texts themselves, the SPDX License List, the OSI's list of approved licences, and for what goes
together the FSF's "Various Licenses and Comments about Them" (gnu.org/licenses/license-list.html). This is a
first reading by rules, not legal advice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from examples.dependency_review.models import SEVERITIES, Severity


class Strength(IntEnum):
    """How much a licence wants of the works that use it."""

    PERMISSIVE = 0
    FILE = 1
    """Changed files stay under the licence."""
    LIBRARY = 2
    """The library stays replaceable and under the licence."""
    STRONG = 3
    """The whole program goes under the licence."""
    NETWORK = 4
    """As strong, and also when the program is only used over a network."""
    RESTRICTED = 5
    """Not open source: fields of use are restricted."""


_STRENGTHS: dict[Strength, str] = {
    Strength.PERMISSIVE: """0BSD Apache-1.1 Apache-2.0 Artistic-2.0 BlueOak-1.0.0 BSD-1-Clause
        BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 CC0-1.0 CC-BY-4.0 CNRI-Python curl
        HPND ISC MIT MIT-0 MIT-CMU NCSA OFL-1.1 PSF-2.0 Python-2.0 Python-2.0.1 Unicode-3.0 Unicode-DFS-2016
        Unlicense UPL-1.0 WTFPL X11 Zlib ZPL-2.0 ZPL-2.1 AFL-3.0 bzip2-1.0.6 libpng-2.0 TCL
        FTL LicenseRef-Public-Domain""",
    Strength.FILE: "MPL-1.1 MPL-2.0 EPL-1.0 EPL-2.0 CDDL-1.0 EUPL-1.2",
    Strength.LIBRARY: "LGPL-2.0 LGPL-2.1 LGPL-3.0",
    Strength.STRONG: "GPL-2.0 GPL-3.0 CC-BY-SA-4.0 Sleepycat Parity-7.0.0",
    Strength.NETWORK: "AGPL-3.0",
    Strength.RESTRICTED: """BUSL-1.1 SSPL-1.0 Elastic-2.0 JSON CC-BY-NC-4.0 FSL-1.1-MIT FSL-1.1-ALv2
        BSD-3-Clause-No-Military-License BSD-3-Clause-No-Nuclear-License LicenseRef-Commons-Clause
        LicenseRef-Proprietary""",
}
_STRENGTH = {name: strength for strength, names in _STRENGTHS.items() for name in names.split()}

_KEEP = "keep its copyright notice and licence text in every copy you pass on"
_SOURCE = "offer the source code of the package, with your changes to it, to whoever receives a copy"
_OBLIGATIONS: dict[Strength, tuple[str, ...]] = {
    Strength.PERMISSIVE: (_KEEP,),
    Strength.FILE: (_KEEP, "publish your changes to its own files under the same licence"),
    Strength.LIBRARY: (_KEEP, _SOURCE, "let users replace the library by their own build of it"),
    Strength.STRONG: (_KEEP, _SOURCE, "license a program that includes it as a whole under the same licence"),
    Strength.NETWORK: (
        _KEEP,
        _SOURCE,
        "offer the whole program's source also to those who use it over a network",
    ),
    Strength.RESTRICTED: ("read its terms: they restrict what it may be used for",),
}
_FREE = frozenset({"0BSD", "CC0-1.0", "MIT-0", "Unlicense", "WTFPL", "LicenseRef-Public-Domain"})
_ALIKE = (
    {"PSF-2.0", "Python-2.0", "Python-2.0.1", "CNRI-Python"},  # a stack of licences, which holds the PSF's
    {"MIT", "X11"},  # X11 adds a sentence on the use of names
    {"HPND", "MIT-CMU", "NTP"},
)
_APACHE = ("pass on its NOTICE file, if it has one, and mark the files you changed",)
_ADVERTISING = ("name its authors in all advertising material that mentions it",)


@dataclass(frozen=True)
class Judgement:
    """Whether a project can use a package under a licence."""

    severity: Severity
    why: str = ""


FINE = Judgement("info")


def base(license: str) -> str:
    """The SPDX id without version suffix and exception: `GPL-3.0-or-later WITH X` is `GPL-3.0`."""
    return re.sub(r"(-only|-or-later|\+)$", "", license.split(" WITH ")[0])


def strength(license: str) -> Strength | None:
    """None for a licence that is not in the table. An exception takes the edge off a strong licence."""
    found = _STRENGTH.get(base(license))
    if " WITH " in license and found in (Strength.LIBRARY, Strength.STRONG):
        return Strength.FILE
    return found


def obligations(license: str) -> tuple[str, ...]:
    """What the licence asks of those who pass the package on."""
    if license in _FREE:
        return ()
    found = strength(license)
    extra = _APACHE if base(license) == "Apache-2.0" else _ADVERTISING if license == "BSD-4-Clause" else ()
    return _OBLIGATIONS[found] + extra if found is not None else ()


def same(one: str, other: str) -> bool:
    """Whether two ids name the same text, or texts that the rules do not tell apart."""
    pair = {base(one), base(other)}
    return len(pair) == 1 or any(pair <= group for group in _ALIKE)


def judge(license: str, project: str) -> Judgement:
    """What it means for a project under licence `project` to include a package under `license`."""
    theirs = strength(license)
    if theirs is None:
        return Judgement("major", f"{license} is not among the licences this review knows: read it")
    if theirs is Strength.RESTRICTED:
        return Judgement("critical", f"{license} is not an open-source licence: it restricts use")
    ours = strength(project) or Strength.PERMISSIVE
    if reason := _clash(base(license), project, theirs, ours):
        return Judgement("critical", reason)
    if ours in (Strength.STRONG, Strength.NETWORK) or theirs is Strength.PERMISSIVE:
        return FINE
    return _spread(license, project, theirs, ours)


def _spread(license: str, project: str, theirs: Strength, ours: Strength) -> Judgement:
    """What a copyleft asks of a project that is not under a strong copyleft itself."""
    if theirs is Strength.FILE:
        return Judgement(
            "minor", f"{license} goes with {project}, but changes to its files stay under {license}"
        )
    if theirs is Strength.LIBRARY:
        if ours is Strength.LIBRARY:
            return FINE
        return Judgement(
            "major",
            f"{license} goes with {project} while the package stays separate and replaceable; "
            "bundling it into one executable asks for more",
        )
    network = ", even when it is only offered over a network" if theirs is Strength.NETWORK else ""
    return Judgement(
        "critical",
        f"{license} asks that a program that includes the package is as a whole under {license}, not "
        f"{project}{network}; running it as a separate tool is not affected",
    )


def _clash(license: str, project: str, theirs: Strength, ours: Strength) -> str:
    """Why two licences cannot be fulfilled together, or nothing."""
    ours_base, later = base(project), project.endswith(("-or-later", "+"))
    if ours not in (Strength.LIBRARY, Strength.STRONG, Strength.NETWORK):
        return ""
    if license == "BSD-4-Clause":
        return f"the advertising clause of BSD-4-Clause is a further restriction that {project} forbids"
    if license in ("EPL-1.0", "EPL-2.0", "CDDL-1.0", "MPL-1.1"):
        return f"{license} and {project} ask for incompatible things of one program"
    old = ours_base in ("GPL-2.0", "LGPL-2.0", "LGPL-2.1") and not later
    if old and license in ("Apache-2.0", "GPL-3.0", "LGPL-3.0", "AGPL-3.0"):
        return f"{license} is not compatible with {project}, which does not allow a later version"
    if theirs is Strength.NETWORK and ours is not Strength.NETWORK:
        return f"a program that includes the package comes under the terms of {license}, beyond {project}"
    if theirs is Strength.STRONG and ours is Strength.LIBRARY:
        return f"a program that includes the package is as a whole under {license}, beyond {project}"
    return ""


def worst(judgements: list[Judgement]) -> Judgement:
    """The most severe of several; `FINE` of none."""
    return max(judgements, key=lambda one: SEVERITIES.index(one.severity), default=FINE)


def best(judgements: list[Judgement]) -> Judgement:
    """The least severe of several."""
    return min(judgements, key=lambda one: SEVERITIES.index(one.severity), default=FINE)
