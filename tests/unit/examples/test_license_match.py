from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.dependency_review.declared_license import ids_of
from examples.dependency_review.license_match import licenses_in
from examples.dependency_review.license_terms import judge
from examples.dependency_review.spdx_expression import normalised, parse
from tests.unit.examples.license_texts import BSD_3, GPL_3, MIT, TEXTS


@pytest.mark.parametrize("license", TEXTS)
def test_a_text_is_recognised(license: str) -> None:
    assert {one.license for one in licenses_in(TEXTS[license])} == {license}


@pytest.mark.parametrize("license", TEXTS)
def test_layout_does_not_matter(license: str) -> None:
    words = TEXTS[license].upper().split()
    rewrapped = "\n".join("# " + " ".join(words[i : i + 7]) for i in range(0, len(words), 7))
    assert {one.license for one in licenses_in(rewrapped)} == {license}


@given(before=st.integers(0, 50))
def test_a_match_tells_its_lines(before: int) -> None:
    (found,) = licenses_in("Something else.\n" * before + MIT)
    assert (found.line, found.last_line) == (before + 5, before + 18)


def test_a_form_feed_is_not_a_line() -> None:
    (found,) = licenses_in(GPL_3)
    assert GPL_3.split("\n")[found.last_line - 1].strip() == "END OF TERMS AND CONDITIONS"


def test_several_texts_in_one_file() -> None:
    found = licenses_in(f"{MIT}\nParts are from elsewhere:\n\n{BSD_3}")
    assert [one.license for one in found] == ["MIT", "BSD-3-Clause"]
    assert found[1].line > found[0].last_line


def test_a_proposed_notice_is_not_a_notice() -> None:
    assert [one.kind for one in licenses_in(GPL_3)] == ["text"]


@pytest.mark.parametrize(
    ("notice", "license"),
    [
        ('Licensed under the Apache License, Version 2.0 (the "License"); you may not', "Apache-2.0"),
        ("is subject to the terms of the Mozilla Public License, v. 2.0.", "MPL-2.0"),
        (
            "GNU Lesser General Public License as published by the Free Software Foundation; either\n"
            "version 2.1 of the License, or (at your option) any later version.",
            "LGPL-2.1-or-later",
        ),
        (
            "the GNU General Public License as published by the\n"
            "Free Software Foundation, version 2 of the License.",
            "GPL-2.0-only",
        ),
    ],
)
def test_a_notice_refers_to_a_license(notice: str, license: str) -> None:
    assert [(one.license, one.kind) for one in licenses_in(notice)] == [(license, "notice")]


def test_an_exception_is_part_of_the_license() -> None:
    (found,) = licenses_in(f"{GPL_3}\nGCC Runtime Library Exception\n")
    assert found.license == "GPL-3.0 WITH GCC-exception-3.1"
    assert judge(found.license, "Apache-2.0").severity == "minor"


def test_an_appended_restriction_is_not_missed() -> None:
    text = (
        f"{BSD_3}\nIt is not licensed or intended for use in the design or operation of any nuclear facility."
    )
    (found,) = licenses_in(text)
    assert judge(found.license, "MIT").severity == "critical"


@pytest.mark.parametrize(
    "text", ["", "\n\n", "All rights reserved.", "\0\x01", "permission is hereby granted"]
)
def test_no_license(text: str) -> None:
    assert licenses_in(text) == []


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    licenses_in(text)


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("GNU General Public License v3 or later (GPLv3+)", ("GPL-3.0-or-later",)),
        ("GPLv2", ("GPL-2.0",)),
        ("LGPLv3+", ("LGPL-3.0-or-later",)),
        ("GNU Lesser General Public License v2 (LGPLv2)", ("LGPL-2.1", "LGPL-2.0")),
        ("GNU Library or Lesser General Public License (LGPL)", ("LGPL-3.0", "LGPL-2.1", "LGPL-2.0")),
        ("Apache License, Version 2.0", ("Apache-2.0",)),
        ("New BSD License", ("BSD-3-Clause",)),
        ("Mozilla Public License 2.0 (MPL 2.0)", ("MPL-2.0",)),
        ("Dual licensed: GNU Affero GPL 3.0 or a commercial license", ("AGPL-3.0",)),
        ("Dual License", ()),
        ("see the file", ()),
    ],
)
def test_usual_names(name: str, ids: tuple[str, ...]) -> None:
    assert ids_of(name) == ids


def test_an_ambiguous_name_means_several() -> None:
    assert {"BSD-2-Clause", "BSD-3-Clause"} <= set(ids_of("BSD License"))


def test_expressions_are_evaluated() -> None:
    expression = normalised("mpl-2.0 and (apache-2.0 or mit)")
    assert expression == "MPL-2.0 AND (Apache-2.0 OR MIT)"
    shape = parse(expression).evaluate(str, " + ".join, lambda parts: f"one of {parts}")
    assert shape == "MPL-2.0 + one of ['Apache-2.0', 'MIT']"
    assert parse("GPL-3.0-only WITH GCC-exception-3.1").ids() == ("GPL-3.0-only WITH GCC-exception-3.1",)


@pytest.mark.parametrize(
    ("license", "project", "severity"),
    [
        ("MIT", "Apache-2.0", "info"),
        ("MPL-2.0", "Apache-2.0", "minor"),
        ("LGPL-3.0-only", "Apache-2.0", "major"),
        ("GPL-3.0-or-later", "Apache-2.0", "critical"),
        ("AGPL-3.0-only", "LicenseRef-Proprietary", "critical"),
        ("GPL-3.0-only", "GPL-3.0-or-later", "info"),
        ("Apache-2.0", "GPL-3.0-only", "info"),
        ("Apache-2.0", "GPL-2.0-only", "critical"),
        ("Apache-2.0", "GPL-2.0-or-later", "info"),
        ("AGPL-3.0-only", "GPL-3.0-only", "critical"),
        ("BSD-4-Clause", "GPL-3.0-only", "critical"),
        ("SSPL-1.0", "MIT", "critical"),
        ("Nobody-Knows", "MIT", "major"),
    ],
)
def test_what_goes_with_what(license: str, project: str, severity: str) -> None:
    assert judge(license, project).severity == severity
