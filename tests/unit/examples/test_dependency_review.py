"""The review as a whole, on made-up packages and on the ones these tests run with."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from examples.dependency_review import (
    dependency_review,
    documentation_digest,
    license_review,
    maintenance_review,
    render,
    report,
    verdict,
)
from examples.dependency_review.models import Environment, Report, Reviews
from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.produced import Shape
from schemas import Gap, Gathered
from tests.unit.examples.installed import DAY, assert_supported, install, material, review_all
from tests.unit.examples.license_texts import GPL_3, MIT
from workers import Permanent

LATE = Gap(branch="license_review", state="late", reason="60 s passed")


@pytest.fixture(scope="module")
def real() -> Report:
    """The environment that runs these tests."""
    return review_all(Environment(as_of=DAY))


def reviews(site: Path) -> Reviews:
    read = material(site, "thing")
    return Reviews(
        license_review=license_review(read),
        maintenance_review=maintenance_review(read),
        documentation_digest=documentation_digest(read),
    )


def test_the_workflow_compiles() -> None:
    plan = compile_workflow(dependency_review)
    assert plan.shape("1/join", "1") is Shape.GATHERED
    assert plan.shape("1/7/1/join", "1/7/1").startswith("named")
    assert "path" in plan.input_schema["properties"]


def test_every_citation_stands_in_its_file(real: Report) -> None:
    assert real.packages > 20
    for one in real.verdicts:
        for citation in [*one.key_sentences, *(place for each in one.findings for place in each.citations)]:
            assert_supported(citation)


def test_known_packages_have_their_licenses(real: Report) -> None:
    found = {one.package.lower(): one.license for one in real.verdicts}
    expected = {
        "celery": "BSD-3-Clause",
        "psycopg": "LGPL-3.0-only",
        "sqlalchemy": "MIT",
        "requests": "Apache-2.0",
        "hypothesis": "MPL-2.0",
        "typing_extensions": "PSF-2.0",
        "yamllint": "GPL-3.0-or-later",
        "pygments": "BSD-2-Clause",
        "packaging": "Apache-2.0 OR BSD-2-Clause",
    }
    assert {name: found[name] for name in expected if name in found} == {
        name: license for name, license in expected.items() if name in found
    }
    assert "celery" in found


def test_the_real_environment_is_mostly_harmless(real: Report) -> None:
    """The texts of almost all packages are recognised, and few packages cause work."""
    silent = [one for one in real.verdicts if one.license in ("unknown", "not reviewed")]
    assert len(silent) <= 0.02 * real.packages
    assert real.tiers["low"] >= 0.7 * real.packages
    assert sum(bool(one.key_sentences) for one in real.verdicts) >= 0.9 * real.packages


def test_the_same_environment_gets_the_same_report(real: Report) -> None:
    assert review_all(Environment(as_of=DAY)).model_dump_json() == real.model_dump_json()


def test_a_healthy_package_is_a_low_risk(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: MIT\n", {"licenses/LICENSE": MIT})
    judged = verdict(reviews(tmp_path))
    assert (judged.tier, judged.reasons, judged.license) == ("low", [], "MIT")
    assert judged.summary == "Counts things."
    assert [one.quote for one in judged.key_sentences] == [
        "This package counts things that nobody else would care to count, and it does so quickly."
    ]


def test_a_conflict_is_a_high_risk(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: GPL-3.0-only\n", {"licenses/LICENSE": GPL_3})
    judged = verdict(reviews(tmp_path))
    assert judged.tier == "high"
    assert judged.findings[0].rule == "license.conflict"
    assert judged.reasons == [judged.findings[0].message]


def test_three_signs_of_age_are_a_medium_risk(tmp_path: Path) -> None:
    fields = (
        "License-Expression: MIT\nClassifier: Programming Language :: Python :: 3.7\n"
        "Requires-Dist: other==1\nClassifier: Development Status :: 1 - Planning\n"
    )
    install(tmp_path, "thing", fields, {"licenses/LICENSE": MIT})
    judged = verdict(reviews(tmp_path))
    assert (judged.tier, len(judged.reasons)) == ("medium", 3)


def test_what_was_not_reviewed_is_no_low_risk(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: MIT\n", {"licenses/LICENSE": MIT})
    partial = reviews(tmp_path).model_copy(update={"license_review": None, "gaps": [LATE]})
    judged = verdict(partial)
    assert (judged.tier, judged.license) == ("medium", "not reviewed")
    assert judged.reasons == ["license_review gave no result (late: 60 s passed)"]


def test_a_missing_digest_changes_no_tier(tmp_path: Path) -> None:
    install(tmp_path, "thing", "License-Expression: MIT\n", {"licenses/LICENSE": MIT})
    gap = Gap(branch="documentation_digest", state="failed", reason="OSError")
    judged = verdict(reviews(tmp_path).model_copy(update={"documentation_digest": None, "gaps": [gap]}))
    assert (judged.tier, judged.key_sentences, judged.gaps) == ("low", [], [gap])


def test_no_review_is_no_verdict() -> None:
    with pytest.raises(Permanent, match="nothing to judge by"):
        verdict(Reviews(gaps=[LATE]))


def test_the_report_puts_risks_first_and_names_gaps(tmp_path: Path) -> None:
    for name, text in (("ant", MIT), ("bee", GPL_3), ("cat", MIT)):
        install(tmp_path, name, files={"licenses/LICENSE": text})
    found = review_all(Environment(path=str(tmp_path), as_of=DAY))
    with_gap = report(Gathered(results=found.verdicts, gaps=[Gap(branch="3", state="failed", reason="gone")]))
    assert [one.package for one in with_gap.verdicts] == ["bee", "ant", "cat"]
    assert (with_gap.packages, with_gap.tiers) == (4, {"high": 1, "medium": 0, "low": 2})
    assert with_gap.licenses == {"MIT": 2, "GPL-3.0": 1}
    assert "gone" in shown(with_gap)


def test_the_report_is_readable(tmp_path: Path) -> None:
    install(tmp_path, "bee", "License: GPLv3\n", {"licenses/LICENSE": GPL_3})
    install(tmp_path, "ant", "License: MIT\n", {"licenses/LICENSE": MIT})
    page = shown(review_all(Environment(path=str(tmp_path), as_of=DAY)))
    assert "2 packages: 1 high risk, 0 medium risk, 1 low risk" in page
    assert "HIGH bee 1.2.3  GPL-3.0" in page
    assert "bee-1.2.3.dist-info/licenses/LICENSE:1" in page
    assert "let users" not in page


def test_an_empty_environment_has_an_empty_report() -> None:
    assert "0 packages" in shown(report(Gathered(results=[])))


def shown(found: Report) -> str:
    page = StringIO()
    Console(width=120, file=page).print(render(found.model_dump(mode="json")))
    return page.getvalue()
