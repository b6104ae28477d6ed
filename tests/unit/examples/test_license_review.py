from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.examples.installed import assert_supported, install, licenses, rules
from tests.unit.examples.license_texts import AGPL_3, APACHE, BSD_3, GPL_3, LGPL_3, MIT, TEXTS

LICENSE = "licenses/LICENSE"


@pytest.mark.parametrize("license", TEXTS)
def test_the_license_is_taken_from_the_text(tmp_path: Path, license: str) -> None:
    install(tmp_path, "thing", files={LICENSE: TEXTS[license]})
    review = licenses(tmp_path, "thing")
    assert (review.license, review.identified) == (license, [license])
    assert rules(review)["license.undeclared"] == "minor"
    for finding in review.findings:
        for citation in finding.citations:
            assert_supported(citation)


def test_an_ambiguous_declaration_is_settled_by_the_text(tmp_path: Path) -> None:
    install(tmp_path, "thing", "Classifier: License :: OSI Approved :: BSD License\n", {LICENSE: BSD_3})
    review = licenses(tmp_path, "thing")
    assert review.license == "BSD-3-Clause"
    assert "license.mismatch" not in rules(review)


def test_a_text_that_contradicts_the_declaration(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: MIT\n", {LICENSE: GPL_3})
    review = licenses(tmp_path, "thing")
    found = rules(review)
    assert (review.license, review.declared) == ("GPL-3.0", "MIT")
    assert (found["license.mismatch"], found["license.conflict"]) == ("major", "critical")
    (mismatch,) = [one for one in review.findings if one.rule == "license.mismatch"]
    assert [one.quote for one in mismatch.citations] == [
        "License-Expression: MIT",
        "GNU GENERAL PUBLIC LICENSE",
    ]


def test_a_choice_is_judged_by_the_better_license(tmp_path: Path) -> None:
    fields = "License-Expression: GPL-3.0-only OR Apache-2.0\n"
    install(tmp_path, "thing", fields, {"licenses/LICENSE.GPL": GPL_3, "licenses/LICENSE.APACHE": APACHE})
    assert "critical" not in rules(licenses(tmp_path, "thing")).values()


def test_both_licenses_apply(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: GPL-3.0-only AND MIT\n", {LICENSE: MIT})
    found = rules(licenses(tmp_path, "thing"))
    assert (found["license.conflict"], found["license.text-missing"]) == ("critical", "minor")


def test_the_projects_own_license_decides(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: GPL-3.0-or-later\n", {LICENSE: GPL_3})
    assert rules(licenses(tmp_path, "thing", "MIT"))["license.conflict"] == "critical"
    assert "license.conflict" not in rules(licenses(tmp_path, "thing", "GPL-3.0-or-later"))


def test_the_gpl_beside_the_lgpl_is_no_second_license(tmp_path: Path) -> None:
    files = {"licenses/COPYING": GPL_3, "licenses/COPYING.LESSER": LGPL_3}
    install(tmp_path, "thing", "License: LGPLv3\n", files)
    review = licenses(tmp_path, "thing")
    assert (review.license, rules(review)["license.condition"]) == ("LGPL-3.0", "major")


def test_what_is_bundled_is_told_apart(tmp_path: Path) -> None:
    files = {LICENSE: MIT, "licenses/vendor/inner/LICENSE": AGPL_3, "licenses/vendor/other/LICENSE": BSD_3}
    install(tmp_path, "thing", "License-Expression: MIT\n", files)
    review = licenses(tmp_path, "thing")
    bundled = [(one.severity, one.message) for one in review.findings if one.rule == "license.bundled"]
    assert (review.license, review.identified) == ("MIT", ["MIT"])
    assert [severity for severity, _ in bundled] == ["major", "info"]
    assert "AGPL-3.0" in bundled[0][1]


def test_no_license_at_all(tmp_path: Path) -> None:
    install(tmp_path, "thing")
    review = licenses(tmp_path, "thing")
    assert (review.license, rules(review)) == ("unknown", {"license.none": "critical"})


def test_a_declaration_without_a_text(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License: MIT License\n")
    review = licenses(tmp_path, "thing")
    assert (review.license, rules(review)["license.text-missing"]) == ("MIT", "minor")
    assert review.obligations


def test_an_unknown_text(tmp_path: Path) -> None:
    install(tmp_path, "thing", files={LICENSE: "You may look, but not touch.\n"})
    assert rules(licenses(tmp_path, "thing"))["license.unrecognised"] == "major"


def test_an_expression_that_is_none(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: whatever you like\n", {LICENSE: MIT})
    review = licenses(tmp_path, "thing")
    assert (review.license, rules(review)["license.expression"]) == ("MIT", "minor")


def test_a_whole_text_as_declaration(tmp_path: Path) -> None:
    text = MIT.replace("\n", "\n        ")
    install(tmp_path, "thing", f"License: {text.rstrip()}\n")
    assert licenses(tmp_path, "thing").license == "MIT"


def test_a_notice_file_has_to_be_passed_on(tmp_path: Path) -> None:
    install(
        tmp_path, "thing", "License: Apache 2.0\n", {LICENSE: APACHE, "licenses/NOTICE": "\nThing by Ada\n"}
    )
    (finding,) = [one for one in licenses(tmp_path, "thing").findings if one.rule == "license.notice"]
    assert (finding.citations[0].line, finding.citations[0].quote) == (2, "Thing by Ada")


def test_a_license_in_the_package_folder(tmp_path: Path) -> None:
    folder = install(tmp_path, "thing", "License: MIT\n", {"RECORD": "thing/LICENSE,,\n../../../LICENSE,,\n"})
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "LICENSE").write_text(MIT)
    review = licenses(tmp_path, "thing")
    assert review.identified == ["MIT"]
    assert all(str(folder.parent) in place.file for one in review.findings for place in one.citations)


def test_an_added_permission_that_the_metadata_omit(tmp_path: Path) -> None:
    text = f"You may link or embed compiled bootloader and related files into anything.\n{GPL_3}"
    install(tmp_path, "thing", "License: GPLv3\n", {LICENSE: text})
    review = licenses(tmp_path, "thing")
    assert review.license == "GPL-3.0 WITH Bootloader-exception"
    assert rules(review)["license.condition"] == "minor"


def test_a_part_weighs_less_than_the_whole(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: MIT\n", {LICENSE: f"{MIT}\n{GPL_3}"})
    review = licenses(tmp_path, "thing")
    assert (review.license, rules(review)["license.part"]) == ("MIT", "major")


def test_a_license_field_of_several_lines(tmp_path: Path) -> None:
    fields = (
        "License: Mine\n        \n        All yours.\nClassifier: License :: OSI Approved :: MIT License\n"
    )
    install(tmp_path, "thing", fields, {LICENSE: MIT})
    review = licenses(tmp_path, "thing")
    assert (review.license, review.declared) == ("MIT", "MIT")
