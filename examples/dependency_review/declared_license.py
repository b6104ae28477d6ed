"""The licence that a package's metadata declare, as SPDX ids.

In the order of PEP 639: the `License-Expression` field; before it came the free text of `License` and the
trove classifiers, which are often ambiguous ("BSD License" may be any of that family).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from examples.dependency_review.license_match import licenses_in
from examples.dependency_review.license_terms import same
from examples.dependency_review.metadata import Field, Metadata
from examples.dependency_review.spdx_expression import normalised, parse

_BSD = ("BSD-3-Clause", "BSD-2-Clause", "BSD-4-Clause", "BSD-3-Clause-Clear", "BSD-1-Clause", "0BSD")
_PSF = ("PSF-2.0", "Python-2.0", "Python-2.0.1", "CNRI-Python")
_GNU_ANY = {
    "GPL": ("GPL-3.0", "GPL-2.0"),
    "LGPL": ("LGPL-3.0", "LGPL-2.1", "LGPL-2.0"),
    "AGPL": ("AGPL-3.0",),
}
_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"mit( software)?( licen[cs]e)?( mit)?|the mit licen[cs]e( mit)?|expat( licen[cs]e)?",
        ("MIT", "MIT-0", "X11"),
    ),
    (r"mit no attribution licen[cs]e.*|mit 0", ("MIT-0",)),
    (
        r"(the )?(new|modified|revised) bsd( licen[cs]e)?|bsd 3( clause)?.*|3 clause bsd.*|bsd new",
        ("BSD-3-Clause",),
    ),
    (r"simplified bsd( licen[cs]e)?|bsd 2( clause)?.*|2 clause bsd.*|freebsd", ("BSD-2-Clause",)),
    (r"(the )?bsd( style| like| derived)?( licen[cs]e)?", _BSD),
    (
        r"(the )?apache( software)?( licen[cs]e)?( v| version)? ?2( 0)?|apache2( 0)?|asl 2( 0)?",
        ("Apache-2.0",),
    ),
    (r"(the )?apache( software)?( licen[cs]e)?", ("Apache-2.0", "Apache-1.1")),
    (r"isc( licen[cs]e)?( iscl)?|iscl", ("ISC",)),
    (
        r"psf( 2 0)?( licen[cs]e)?|psfl|(the )?python( software foundation)?( licen[cs]e)?( psf 2 0| 2 0)?",
        _PSF,
    ),
    (r"mpl ?2( 0)?|mpl v2( 0)?|mozilla public licen[cs]e( version| v)? ?2 0( mpl 2 0)?", ("MPL-2.0",)),
    (r"mozilla public licen[cs]e 1 1.*|mpl 1 1", ("MPL-1.1",)),
    (r"mpl|mozilla public licen[cs]e", ("MPL-2.0", "MPL-1.1")),
    (r"(the )?unlicense( unlicense)?( license)?", ("Unlicense",)),
    (r"public domain.*", ("LicenseRef-Public-Domain", "Unlicense", "CC0-1.0", "0BSD")),
    (r"cc0.*", ("CC0-1.0",)),
    (r"zlib( libpng)?( licen[cs]e)?", ("Zlib",)),
    (r"zpl( v)?( 2 1)?|zope public licen[cs]e.*", ("ZPL-2.1", "ZPL-2.0")),
    (r"historical permission notice and disclaimer.*|hpnd", ("HPND", "MIT-CMU")),
    (r"boost software licen[cs]e.*", ("BSL-1.0",)),
    (r"eclipse public licen[cs]e 2 0.*", ("EPL-2.0",)),
    (r"eclipse public licen[cs]e 1 0.*", ("EPL-1.0",)),
    (r"european union public licence 1 2.*", ("EUPL-1.2",)),
    (r"universal permissive licen[cs]e.*", ("UPL-1.0",)),
    (r"artistic licen[cs]e", ("Artistic-2.0", "Artistic-1.0")),
    (
        r"(other )?proprietary( licen[cs]e)?|nvidia.*|commercial|all rights reserved",
        ("LicenseRef-Proprietary",),
    ),
)
_GNU = re.compile(
    r"(?:.*? )?(?P<kind>lesser|library|affero)? ?\b(?P<short>a?l?gpl|general public licen[cs]e)\b"
    r" ?(?:licen[cs]e)? ?(?:v|version)? ?(?P<number>\d(?: \d)?)?(?P<rest>.*)"
)


@dataclass(frozen=True)
class Declared:
    """What the metadata declare."""

    text: str
    """For people: an SPDX expression, or the words of the metadata."""
    acceptable: tuple[str, ...]
    """SPDX ids that would fulfil the declaration; empty when it cannot be understood."""
    expression: str | None
    """Set when the declaration is unambiguous."""
    field: Field
    valid: bool = True
    """False for a `License-Expression` that is not one."""

    def allows(self, license: str) -> bool:
        return any(same(license, one) for one in self.acceptable)


def declared(metadata: Metadata) -> Declared | None:
    """What the metadata declare, or None if they say nothing about it."""
    if field := metadata.get("License-Expression"):
        expression = normalised(field.value)
        ids = parse(expression).ids() if expression else ()
        return Declared(expression or field.value, ids, expression, field, valid=expression is not None)
    classifiers = [_classifier(one) for one in metadata.classifiers("License") if _speaks(one)]
    free = _free_text(metadata.get("License"))
    # The free text is usually more precise than the classifier; a classifier helps when it is not understood.
    if free and (free.acceptable or not classifiers) and len(classifiers) < 2:
        return free
    if not classifiers:
        return None
    ids = tuple(dict.fromkeys(id for one in classifiers for id in one.acceptable))
    text = " / ".join(dict.fromkeys(one.text for one in classifiers))
    only = classifiers[0].expression if len(classifiers) == 1 else None
    return Declared(text, ids, only, classifiers[0].field)


def ids_of(name: str) -> tuple[str, ...]:
    """The SPDX ids that a licence's usual name may mean, most likely first; none if it is unknown."""
    words = " ".join(re.findall(r"[a-z0-9]+", name.lower().replace("+", " plus ")))
    words = words.replace("library or lesser", "lesser")
    for pattern, ids in _NAMES:
        if re.fullmatch(pattern, words):
            return ids
    return _gnu(words)


def _gnu(words: str) -> tuple[str, ...]:
    words = re.sub(r"\b(a?l?gpl)v?(\d)", r"\1 \2", words)
    match = _GNU.fullmatch(words)
    if not match:
        return ()
    short = match["short"].upper()
    kind = {"lesser": "LGPL", "library": "LGPL", "affero": "AGPL"}.get(match["kind"] or "")
    kind = kind or (short if short in _GNU_ANY else "GPL")
    if not match["number"]:
        return _GNU_ANY[kind]
    number = match["number"].replace(" ", ".")
    suffix = "-or-later" if re.search("later|plus", match["rest"]) else ""
    # The second LGPL is version 2.1, and is often called 2.
    numbers = ("2.1", "2.0") if kind + number == "LGPL2" else (number if "." in number else f"{number}.0",)
    return tuple(f"{kind}-{one}{suffix}" for one in numbers)


def _speaks(classifier: Field) -> bool:
    return classifier.value not in ("OSI Approved", "DFSG approved")


def _classifier(field: Field) -> Declared:
    name = field.value.removeprefix("OSI Approved :: ")
    # "GNU General Public License v3 or later (GPLv3+)": what is in parentheses repeats it in short.
    ids = ids_of(name) or ids_of(name.partition(" (")[0])
    exact = _exact(ids)
    return Declared(exact or name, ids, exact, field)


def _exact(ids: tuple[str, ...]) -> str | None:
    """The one licence that a name means; whoever says MIT means MIT, though a variant would do."""
    return ids[0] if len(ids) == 1 or ids[:1] == ("MIT",) else None


def _free_text(field: Field | None) -> Declared | None:
    if field is None:
        return None
    if len(field.value) > 200 or field.value.count("\n") > 3:
        ids = tuple(dict.fromkeys(one.license for one in licenses_in(field.value)))
        title = field.value.strip().partition("\n")[0][:60]
        return Declared(ids[0] if ids else title, ids, ids[0] if len(ids) == 1 else None, field)
    value = " ".join(field.value.split())
    if expression := normalised(value):
        return Declared(expression, parse(expression).ids(), expression, field)
    ids = ids_of(value)
    exact = _exact(ids)
    return Declared(exact or value, ids, exact, field)
