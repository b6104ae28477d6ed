from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.examples.installed import ABOUT, GOOD, assert_supported, install, maintenance, rules


def quotes(site: Path, rule: str) -> list[str]:
    found = [one for one in maintenance(site, "thing").findings if one.rule == rule]
    for finding in found:
        for citation in finding.citations:
            assert_supported(citation)
    return [citation.quote for finding in found for citation in finding.citations]


def test_a_healthy_package_gets_no_remark(tmp_path: Path) -> None:
    install(tmp_path, "thing")
    assert maintenance(tmp_path, "thing").findings == []


@pytest.mark.parametrize(
    ("field", "rule", "severity"),
    [
        ("Classifier: Development Status :: 7 - Inactive", "maintenance.status", "major"),
        ("Classifier: Development Status :: 2 - Pre-Alpha", "maintenance.status", "minor"),
        ("Classifier: Development Status :: 5 - Production/Stable", "maintenance.status", "info"),
        ("Classifier: Programming Language :: Python :: 3.7", "maintenance.old-python", "minor"),
        ("Classifier: Programming Language :: Python :: 2.7", "maintenance.old-python", "major"),
        ("Requires-Dist: other==1.0", "maintenance.pin", "minor"),
        ("Requires-Dist: other @ https://example.org/other.zip", "maintenance.dependency-url", "major"),
        ("Requires-Dist: ???", "maintenance.dependency", "minor"),
    ],
)
def test_a_field_and_what_it_tells(tmp_path: Path, field: str, rule: str, severity: str) -> None:
    install(tmp_path, "thing", f"{field}\n")
    assert rules(maintenance(tmp_path, "thing")) == {rule: severity}
    assert quotes(tmp_path, rule) == [field]


@pytest.mark.parametrize(
    "field",
    [
        "Requires-Dist: other>=1,<2",
        "Requires-Dist: other==1.*",
        "Requires-Dist: thing-core==1.2.3",
        'Requires-Dist: other==1.0; extra == "all"',
        "Classifier: Programming Language :: Python :: 3.13",
    ],
)
def test_what_is_no_reason_to_worry(tmp_path: Path, field: str) -> None:
    install(tmp_path, "thing", f"{field}\n")
    assert maintenance(tmp_path, "thing").findings == []


@pytest.mark.parametrize(
    ("requires", "rule", "severity"),
    [
        ("", "maintenance.requires-python", "minor"),
        ("Requires-Python: >=2.7,<3.9\n", "maintenance.old-python", "major"),
        ("Requires-Python: >=3.8,<3.13\n", "maintenance.python-cap", "minor"),
        ("Requires-Python: three\n", "maintenance.requires-python", "minor"),
    ],
)
def test_the_pythons_it_needs(tmp_path: Path, requires: str, rule: str, severity: str) -> None:
    folder = install(tmp_path, "thing")
    (folder / "METADATA").write_text(GOOD.format(name="thing").replace("Requires-Python: >=3.10\n", requires))
    assert rules(maintenance(tmp_path, "thing")) == {rule: severity}


@pytest.mark.parametrize(
    ("version", "rule"),
    [
        ("2.0rc1", "maintenance.prerelease"),
        ("2019.3", "maintenance.old-release"),
        ("one", "maintenance.version"),
    ],
)
def test_the_version(tmp_path: Path, version: str, rule: str) -> None:
    folder = install(tmp_path, "thing")
    (folder / "METADATA").write_text(GOOD.format(name="thing").replace("1.2.3", version))
    assert rules(maintenance(tmp_path, "thing")) == {rule: "minor"}
    assert quotes(tmp_path, rule) == [f"Version: {version}"]


@pytest.mark.parametrize(
    "line",
    [
        "**This project has been archived.**",
        "This package is no longer actively maintained, but the code lives on.",
        "DEPRECATED: use something else.",
        "The repository is now archived",
        "The project is looking for a maintainer.",
    ],
)
def test_words_of_farewell(tmp_path: Path, line: str) -> None:
    install(tmp_path, "thing", body=f"\n# thing\n\n{line}\n{ABOUT}")
    assert quotes(tmp_path, "maintenance.abandoned") == [line]


@pytest.mark.parametrize(
    "line",
    [
        "### Deprecated classifiers",
        "Python 2.7 is no longer supported.",
        "The old function is deprecated in favour of the new one.",
        "It warns about packages that are no longer maintained.",
    ],
)
def test_words_about_something_else(tmp_path: Path, line: str) -> None:
    install(tmp_path, "thing", body=f"\n# thing\n\n{line}\n{ABOUT}")
    assert maintenance(tmp_path, "thing").findings == []


def test_an_old_build_tool(tmp_path: Path) -> None:
    wheel = "Wheel-Version: 1.0\nGenerator: bdist_wheel (0.29.0)\n"
    install(tmp_path, "thing", files={"WHEEL": wheel})
    assert rules(maintenance(tmp_path, "thing")) == {"maintenance.old-build": "info"}
    assert quotes(tmp_path, "maintenance.old-build") == ["Generator: bdist_wheel (0.29.0)"]


def test_no_project_page(tmp_path: Path) -> None:
    folder = install(tmp_path, "thing")
    text = (folder / "METADATA").read_text()
    (folder / "METADATA").write_text(text.replace("Project-URL: Source, https://example.org/thing\n", ""))
    assert rules(maintenance(tmp_path, "thing")) == {"maintenance.no-url": "minor"}
