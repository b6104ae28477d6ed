"""The tools that read files, below a folder that others fill with traps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import DefinitionError, Permanent, ToolError
from tests.integration.tools.using import use
from workers.tools import list_files, read_file
from workers.tools.builtin import files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with something in it, beside a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "rootless").mkdir()
    (tmp_path / "rootless" / "secret").write_text("secret")
    made = tmp_path / "root"
    (made / "docs" / "deep").mkdir(parents=True)
    (made / "a.md").write_text("grüße")
    (made / "docs" / "b.txt").write_text("text b")
    (made / "docs" / "deep" / "c.md").write_text("text c")
    return made


def test_a_file_is_read_whole_or_in_parts(root: Path) -> None:
    assert use(read_file(root), path="docs/b.txt") == {"text": "text b", "size": 6, "next": None}

    parts, start = [], 0
    while start is not None:
        found = use(read_file(root, max_bytes=4), path="a.md", start=start)
        parts.append(found["text"])
        start = found["next"]
    assert parts == ["grü", "ße"]  # no character is cut in two


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "docs/../../secret",
        "/etc/passwd",
        "{root}/../secret",
        "..",
        "docs/..",
        "../rootless/secret",
        "~/.ssh/id_rsa",
        "no/such",
        "a.md/b",
        "\0",
        "a" * 300,
        "docs",
        "",
        "\ud800",
    ],
)
def test_nothing_outside_and_nothing_that_is_no_file_is_read(root: Path, path: str) -> None:
    with pytest.raises(ToolError):
        use(read_file(root), path=path.format(root=root))


def test_links_lead_to_what_is_below_the_root_only(root: Path) -> None:
    (root / "inner").symlink_to("docs/b.txt")
    (root / "folder").symlink_to("docs")
    (root / "out").symlink_to("../secret")
    (root / "up").symlink_to("..")
    (root / "far").symlink_to("/etc")
    (root / "round").symlink_to("round")

    assert use(read_file(root), path="inner")["text"] == "text b"
    assert use(read_file(root), path="folder/b.txt")["text"] == "text b"
    for path in ("out", "up/secret", "far/passwd", "up/rootless/secret"):
        with pytest.raises(ToolError, match="leads out"):
            use(read_file(root), path=path)
    with pytest.raises(ToolError):
        use(read_file(root), path="round")
    with pytest.raises(ToolError):
        use(list_files(root), folder="up")


def test_a_root_may_be_a_link_itself(root: Path) -> None:
    (root.parent / "link").symlink_to("root")

    assert use(read_file(root.parent / "link"), path="docs/b.txt")["text"] == "text b"


@pytest.mark.parametrize("swapped", ["docs", "docs/b.txt"])
def test_a_link_that_is_put_there_after_the_check_is_not_followed(
    root: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = files._Root._inside

    def and_then_swap(self: Any, found: Path, path: str) -> tuple[str, ...]:
        parts = inside(self, found, path)
        (root / swapped).rename(root / "away")
        (root / swapped).symlink_to(root.parent / ("rootless" if swapped == "docs" else "secret"))
        return parts

    (root.parent / "rootless" / "b.txt").write_text("secret")
    monkeypatch.setattr(files._Root, "_inside", and_then_swap)

    with pytest.raises(ToolError):
        use(read_file(root), path="docs/b.txt")


def test_a_file_that_ends_within_a_character_is_read_up_to_there(root: Path) -> None:
    (root / "cut").write_bytes(b"abc\xc3")

    assert use(read_file(root), path="cut") == {"text": "abc", "size": 4, "next": 3}
    with pytest.raises(ToolError, match="no UTF-8 text"):
        use(read_file(root), path="cut", start=3)


def test_a_pipe_holds_nobody_up_and_binary_files_are_refused(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "binary").write_bytes(b"\x89PNG\xff")
    (root / "nul").write_bytes(b"a\0b")

    for path, reason in [("pipe", "no regular file"), ("binary", "no UTF-8 text"), ("nul", "no text")]:
        with pytest.raises(ToolError, match=reason):
            use(read_file(root), path=path)
    for start in (-1, 7):
        with pytest.raises(ToolError, match="not among them"):
            use(read_file(root), path="docs/b.txt", start=start)


def test_a_folder_is_listed(root: Path) -> None:
    (root / "link").symlink_to("/etc")

    assert use(list_files(root)) == {"paths": ["a.md", "docs/"], "more": False}
    assert use(list_files(root), folder="docs")["paths"] == ["docs/b.txt", "docs/deep/"]
    assert use(list_files(root), pattern="*.md", deep=True)["paths"] == ["a.md", "docs/deep/c.md"]
    assert use(list_files(root, most=1)) == {"paths": ["a.md"], "more": True}
    for folder in ("..", "/etc", "a.md", "link", "none"):
        with pytest.raises(ToolError):
            use(list_files(root), folder=folder)


def test_a_listing_has_an_end_although_nothing_fits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOKED_AT", 3)

    assert use(list_files(root), pattern="none", deep=True) == {"paths": [], "more": True}


def test_a_listing_goes_down_only_so_far(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LEVELS", 1)

    found = use(list_files(root), deep=True)["paths"]

    assert found == ["a.md", "docs/", "docs/b.txt", "docs/deep/"]


def test_a_root_that_is_missing_is_the_definitions_fault(tmp_path: Path) -> None:
    for tool in (read_file(tmp_path / "none"), list_files(tmp_path / "none")):
        with pytest.raises(Permanent, match="cannot be opened"):
            use(tool, **({"path": "a"} if tool.name == "read_file" else {}))
    with pytest.raises(DefinitionError):
        read_file(tmp_path, max_bytes=0)


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("docs/b.txt", "docs/none", "none/b", "../a"):
        try:
            use(read_file(root), path=path)
        except ToolError:
            continue
    use(list_files(root), deep=True)

    assert len(os.listdir("/proc/self/fd")) == before
