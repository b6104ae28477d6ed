"""What is installed, and how its files are read: broken ones included."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from examples.dependency_review import extract, list_packages
from examples.dependency_review.installed_files import MAX_FILES, MAX_LICENSE, MAX_LICENSES, read_text
from examples.dependency_review.models import Environment
from tests.unit.examples.installed import DAY, install, licenses, material, review_all
from tests.unit.examples.license_texts import GPL_3, MIT
from workers import Permanent


def names(environment: Environment) -> list[str]:
    return [one.name for one in list_packages(environment).packages]


def test_packages_are_sorted_and_counted_once(tmp_path: Path) -> None:
    for name in ("zebra", "ant", "Bee"):
        install(tmp_path, name)
    install(tmp_path, "~ant")
    (tmp_path / "ANT-0.1.dist-info").mkdir()
    assert [one.lower() for one in names(Environment(path=str(tmp_path)))] == ["ant", "bee", "zebra"]
    assert names(Environment(path=str(tmp_path), only=["zebra"])) == ["zebra"]
    assert len(names(Environment(path=str(tmp_path), limit=2))) == 2


def test_a_virtual_environment_is_searched(tmp_path: Path) -> None:
    install(tmp_path / "lib" / "python3.11" / "site-packages", "thing")
    assert names(Environment(path=str(tmp_path))) == ["thing"]


def test_the_project_itself_is_left_out(tmp_path: Path) -> None:
    install(tmp_path, "thing")
    install(
        tmp_path, "mine", files={"direct_url.json": '{"url": "file:///x", "dir_info": {"editable": true}}'}
    )
    install(tmp_path, "odd", files={"direct_url.json": "[1, 2"})
    inventory = list_packages(Environment(path=str(tmp_path)))
    assert [one.name for one in inventory.packages] == ["odd", "thing"]
    assert inventory.skipped == ["mine: an editable install, so it is the project itself"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "nowhere"}, "no virtual environment"),
        ({"only": ["absent"]}, "not installed: absent"),
        ({"project_license": "my own"}, "not one SPDX licence id"),
        ({"project_license": "MIT OR Apache-2.0"}, "not one SPDX licence id"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    install(tmp_path, "thing")
    with pytest.raises(Permanent, match=message):
        list_packages(Environment.model_validate({"path": str(tmp_path), **change}))


def test_files_that_are_not_on_this_machine(tmp_path: Path) -> None:
    install(tmp_path, "thing")
    (package,) = list_packages(Environment(path=str(tmp_path))).packages
    with pytest.raises(Permanent, match="not on this machine"):
        extract(package.model_copy(update={"folder": str(tmp_path / "gone")}))


@pytest.mark.parametrize(
    "metadata", [None, b"", b"\xff\xfe", b"no fields here", b"Name:\nVersion:\n\n\n", b"\0" * 50]
)
def test_broken_metadata(tmp_path: Path, metadata: bytes | None) -> None:
    folder = install(tmp_path, "thing", files={"licenses/LICENSE": MIT, "RECORD": '"broken,,,\n\0'})
    if metadata is None:
        (folder / "METADATA").unlink()
    else:
        (folder / "METADATA").write_bytes(metadata)
    report = review_all(Environment(path=str(tmp_path), as_of=DAY))
    assert [(one.package, one.version, one.license) for one in report.verdicts] == [("thing", "1.2.3", "MIT")]


def test_metadata_from_before_wheels(tmp_path: Path) -> None:
    (tmp_path / "old.egg-info").write_text("Metadata-Version: 1.1\nName: old\nVersion: 0.1\nLicense: BSD\n")
    folder = tmp_path / "older-2.0.egg-info"
    folder.mkdir()
    (folder / "PKG-INFO").write_text(
        "Metadata-Version: 1.0\nName: older\nVersion: 2.0\nLicense: UNKNOWN\nDescription: It counts.\n"
        "        It counts many things in a very short time.\n"
    )
    report = review_all(Environment(path=str(tmp_path), as_of=DAY))
    found = {one.package: one for one in report.verdicts}
    assert (found["old"].license, found["older"].license) == ("BSD", "unknown")
    assert found["older"].tier == "high"
    assert [one.line for one in found["older"].key_sentences] == [6]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_newlines(tmp_path: Path, encoding: str, newline: str) -> None:
    folder = install(tmp_path, "thing")
    text = MIT.replace("Ada", "Ada Müller").replace("\n", newline)
    (folder / "LICENSE").write_bytes(text.encode(encoding))
    review = licenses(tmp_path, "thing")
    (finding,) = [one for one in review.findings if one.rule == "license.identified"]
    assert (review.license, finding.citations[0].line) == ("MIT", 5)


def test_huge_files_are_cut_at_a_line(tmp_path: Path) -> None:
    lines = "All sorts of terms.\n" * 200_000
    install(
        tmp_path, "thing", files={"licenses/LICENSE": MIT + lines, "licenses/a/LICENSE": "x" * 10_000_000}
    )
    files = material(tmp_path, "thing").licenses
    assert [one.truncated for one in files] == [True, True]
    assert all(len(one.text) <= MAX_LICENSE for one in files)
    assert files[0].text.endswith("terms.\n")
    assert licenses(tmp_path, "thing").license == "MIT"


def test_many_files_are_bounded(tmp_path: Path) -> None:
    files = {f"licenses/vendor/{i}/LICENSE": f"{i}\n{'terms ' * 5_000}" for i in range(100)}
    install(tmp_path, "thing", files={**files, "licenses/LICENSE": MIT})
    found = material(tmp_path, "thing").licenses
    assert len(found) <= MAX_FILES
    assert sum(len(one.text) for one in found) <= MAX_LICENSES
    assert not found[0].bundled


def test_what_is_no_license_file(tmp_path: Path) -> None:
    folder = install(
        tmp_path, "thing", files={"licenses/LICENSE": MIT, "license.py": GPL_3, "AUTHORS": "Ada"}
    )
    os.mkfifo(folder / "COPYING")
    (folder / "NOTICE").symlink_to(folder / "nothing")
    assert [Path(one.file).name for one in material(tmp_path, "thing").licenses] == ["LICENSE"]


def test_a_character_cut_in_two(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("é" * 1000, encoding="utf-8")
    found = read_text(path, 3)
    assert found is not None
    assert (found.text, found.truncated) == ("ééé", True)
