"""How to recognise a licence by its text: data only.

The phrases are taken from the texts of the SPDX License List (spdx.org/licenses) and hold in every published
variant of them, so that a different copyright line, another bullet style or a rewrapped paragraph does not
matter. A family is found by one of its `heads`, followed within `reach` words by one of its `tails`; which
member of the family it is follows from the phrases between the two. Phrases are written as
`license_match.Words` sees a text: lower case, letters and digits only, one space between words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A member of a family: it has all of these phrases, or soon after its end says the other."""

    license: str
    having: tuple[str, ...] = ()
    after: str = ""


@dataclass(frozen=True)
class Family:
    """Licences that begin and end alike; the first variant that fits is it."""

    heads: tuple[str, ...]
    tails: tuple[str, ...]
    reach: int
    variants: tuple[Variant, ...]


def _one(license: str, head: str, tail: str, reach: int) -> Family:
    return Family((head,), (tail,), reach, (Variant(license),))


_DAMAGE = ("possibility of such damage", "possibility of such damages", "possibility of any such damage")

FAMILIES: tuple[Family, ...] = (
    Family(
        ("permission is hereby granted free of charge to any person obtaining",),
        ("other dealings in the software", "other dealings with the software", "dealings in the software"),
        450,
        (
            Variant("JSON", ("shall be used for good not evil",)),
            Variant("NCSA", ("redistributions of source code must retain",)),
            Variant("MIT", ("permission notice",)),
            Variant("MIT-0", ("without restriction",)),
        ),
    ),
    Family(
        (
            "redistribution and use in source and binary forms",
            "redistribution and use of this software in source",
        ),
        _DAMAGE,
        700,
        (
            Variant("ZPL-2.0", ("right to use servicemarks", "zope corporation")),
            Variant("ZPL-2.1", ("right to use servicemarks",)),
            Variant("Sleepycat", ("accompanying software that uses",)),
            Variant("BSD-3-Clause-No-Military-License", after="military"),
            Variant("BSD-3-Clause-No-Nuclear-License", after="intended for use in the design"),
            Variant("Apache-1.1", ("end user documentation included with the redistribution",)),
            Variant("BSD-4-Clause", ("all advertising materials",)),
            Variant("BSD-3-Clause-Clear", ("no express or implied licenses to any party s patent rights",)),
            Variant("BSD-3-Clause", ("endorse or promote products",)),
            Variant("BSD-3-Clause", ("may not be used to endorse",)),
            Variant("BSD-2-Clause", ("binary form must reproduce",)),
            Variant("BSD-1-Clause"),
        ),
    ),
    Family(
        (
            "permission to use copy modify and or distribute this software for any",
            "permission to use copy modify and distribute this software for any",
        ),
        ("use or performance of this software", "other dealings in the software"),
        300,
        (
            Variant("curl", ("or other dealings in the software",)),
            Variant("ISC", ("above copyright notice",)),
            Variant("0BSD"),
        ),
    ),
    Family(
        (
            "permission to use copy modify and distribute this software and its documentation",
            "permission to use copy modify distribute and sell this software and its documentation",
            "permission to use copy modify and distribute this software and its associated documentation",
        ),
        ("use or performance of this software", "as is without express or implied warranty"),
        400,
        (Variant("HPND"),),
    ),
    _one(
        "MIT-CMU",
        "by obtaining using and or copying this software",
        "use or performance of this software",
        400,
    ),
    Family(
        ("this license agreement is between the python software foundation",),
        ("use or performance of this software",),
        3000,
        (Variant("Python-2.0", ("beopen",)), Variant("Python-2.0", ("cnri",))),
    ),
    Family(
        # Others, such as Matplotlib, took it over with their own name in it.
        ("this license agreement is between the",),
        ("agrees to be bound by the terms and conditions of this license agreement",),
        900,
        (Variant("CNRI-Python", ("corporation for national research initiatives",)), Variant("PSF-2.0")),
    ),
    Family(
        ("apache license version 2 0 january 2004",),
        ("end of terms and conditions", "accepting any such warranty or additional liability"),
        2600,
        (Variant("Apache-2.0"),),
    ),
    _one(
        "MPL-2.0",
        "mozilla public license version 2 0",
        "source code form is incompatible with secondary licenses",
        3500,
    ),
    _one("MPL-1.1", "mozilla public license version 1 1", "exhibit a mozilla public license", 6000),
    _one("GPL-2.0", "gnu general public license version 2 june 1991", "end of terms and conditions", 4000),
    _one("GPL-3.0", "gnu general public license version 3 29 june 2007", "end of terms and conditions", 8000),
    _one(
        "AGPL-3.0",
        "gnu affero general public license version 3 19 november 2007",
        "end of terms and conditions",
        8000,
    ),
    _one(
        "LGPL-2.0",
        "gnu library general public license version 2 june 1991",
        "end of terms and conditions",
        6000,
    ),
    _one(
        "LGPL-2.1",
        "gnu lesser general public license version 2 1 february 1999",
        "end of terms and conditions",
        6000,
    ),
    _one(
        "LGPL-3.0",
        "gnu lesser general public license version 3 29 june 2007",
        "authorization for you to choose that version for the library",
        2000,
    ),
    _one("EPL-1.0", "eclipse public license v 1 0", "jury trial in any resulting litigation", 3000),
    _one("EPL-2.0", "eclipse public license v 2 0", "exhibit a form of secondary licenses notice", 4000),
    _one("EUPL-1.2", "european union public licence v 1 2", "appendix", 4000),
    _one("CDDL-1.0", "common development and distribution license cddl version 1 0", "miscellaneous", 4000),
    Family(
        ("this is free and unencumbered software released into the public domain",),
        ("in connection with the software or the use or other dealings in the software", "unlicense org"),
        350,
        (Variant("Unlicense"),),
    ),
    _one("CC0-1.0", "cc0 1 0 universal", "no duty or obligation with respect to this cc0", 1600),
    _one("CC-BY-4.0", "attribution 4 0 international", "apply to the licensor or you", 3500),
    _one("CC-BY-SA-4.0", "attribution sharealike 4 0 international", "apply to the licensor or you", 3700),
    _one("CC-BY-NC-4.0", "attribution noncommercial 4 0 international", "apply to the licensor or you", 3700),
    Family(
        ("this software is provided as is without any express or implied warranty",),
        ("removed or altered from any source", "removed or altered from any distribution"),
        250,
        (Variant("Zlib"),),
    ),
    _one("BSL-1.0", "boost software license version 1 0", "other dealings in the software", 400),
    _one(
        "WTFPL", "do what the fuck you want to public license", "you just do what the fuck you want to", 200
    ),
    _one("Artistic-2.0", "the artistic license 2 0", "possibility of such damage", 2500),
    _one(
        "UPL-1.0", "the universal permissive license upl version 1 0", "other dealings in the software", 500
    ),
    _one("BlueOak-1.0.0", "blue oak model license", "any kind of legal claim", 500),
    _one("OFL-1.1", "sil open font license version 1 1", "other dealings in the font software", 1200),
    _one(
        "Unicode-DFS-2016",
        "to any person obtaining a copy of the unicode data files",
        "authorization of the copyright holder",
        500,
    ),
    _one("Unicode-3.0", "unicode license v3", "authorization of the copyright holder", 500),
    _one("Parity-7.0.0", "the parity public license 7 0 0", "any kind of legal claim", 800),
    Family(
        ("functional source license version 1 1",),
        ("irrevocably grant you an additional license",),
        900,
        (Variant("FSL-1.1-MIT", ("mit future license",)), Variant("FSL-1.1-ALv2")),
    ),
    _one("LicenseRef-Commons-Clause", "commons clause license condition", "value derives", 250),
    _one("BUSL-1.1", "business source license 1 1", "covenants of licensor", 1500),
    _one(
        "SSPL-1.0",
        "server side public license version 1 october 16 2018",
        "end of terms and conditions",
        8000,
    ),
    _one("Elastic-2.0", "elastic license 2 0", "trademark", 1500),
)

EXCEPTIONS: tuple[tuple[str, str], ...] = (
    ("GCC-exception-3.1", "gcc runtime library exception"),
    ("Classpath-exception-2.0", "linking this library statically or dynamically with other modules"),
    ("Bootloader-exception", "link or embed compiled bootloader and related files"),
    ("LLVM-exception", "llvm exceptions to the apache 2 0 license"),
)
"""Added permissions (spdx.org/licenses/exceptions-index.html), each with the phrase that grants it."""

_GNU = {"": "GPL", "lesser ": "LGPL", "library ": "LGPL", "affero ": "AGPL"}
_GNU_NOTICE = re.compile(
    r" gnu (lesser |library |affero |)general public license as published by (?:the )?free software"
    r" foundation (?:either )?version (\d)(?: (\d))? of the license( or at your option any later version)?"
)
_NOTICES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("Apache-2.0", re.compile(r" licensed under the apache license version 2 0 the license")),
    ("MPL-2.0", re.compile(r" subject to the terms of the mozilla public license v 2 0")),
    (
        "MIT",
        re.compile(r" (?:released|licensed|available|distributed) under the (?:terms of the )?mit license"),
    ),
    (
        "BSD-3-Clause",
        re.compile(r" under the (?:terms of the )?(?:bsd 3 clause|3 clause bsd|new bsd) license"),
    ),
)


def notices(text: str) -> list[tuple[str, int, int]]:
    """Where a text says, in the words its licence proposes for that, what it is licensed under.

    `text` is normalised; returns SPDX id, start and end offset.
    """
    found = [(id, match.start() + 1, match.end()) for id, rule in _NOTICES for match in rule.finditer(text)]
    for match in _GNU_NOTICE.finditer(text):
        kind, major, minor, later = match.groups()
        suffix = "or-later" if later else "only"
        found.append((f"{_GNU[kind]}-{major}.{minor or 0}-{suffix}", match.start() + 1, match.end()))
    return found
