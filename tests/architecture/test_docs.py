"""What the documentation shows exists: its commands, its targets of make, its links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.architecture.house import ROOT

DOCUMENTS = ("README.md", "deploy/README.md")
SHELL = re.compile(r"^```(?:sh|shell|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TARGET = re.compile(r"^([a-z][a-z-]*):.*## ", re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """The commands of the shell blocks, one list of words each, without prompts and comments."""
    for block in SHELL.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\||;", line.removeprefix("$ ")):
                lexer = shlex.shlex(part, posix=True, punctuation_chars=False)
                lexer.whitespace_split = True
                words = list(lexer) if part.count("'") % 2 == 0 and part.count('"') % 2 == 0 else part.split()
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words = words[1:]
                if words:
                    yield words


def unknown(words: list[str], command: Any) -> str | None:
    """What of `baton …` is not a command or an option, if anything."""
    given = words[1:]
    while hasattr(command, "commands") and given and not given[0].startswith("-"):
        if given[0] not in command.commands and hasattr(command, "default"):
            command = command.commands[command.default]
            break
        if given[0] not in command.commands:
            return None if command.invoke_without_command else " ".join(words)
        command = command.commands[given.pop(0)]
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    strange = [w for w in given if re.match(r"--[a-z]", w) and w.partition("=")[0] not in options]
    return f"{' '.join(words)}: {', '.join(strange)}" if strange else None


@pytest.fixture(scope="module")
def baton() -> Any:
    from orchestrator.cli.app import app

    return get_command(app)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_baton_command_exists(document: str, baton: Any) -> None:
    shown = [words for words in commands((ROOT / document).read_text()) if words[0] == "baton"]

    assert [fault for words in shown if (fault := unknown(words, baton))] == []


def test_a_command_that_does_not_exist_is_noticed(baton: Any) -> None:
    block = "```sh\n$ KEEP=1 baton runs ls --json  # all\nbaton runs fly\nbaton runs ls --wings | jq .\n```\n"

    faults = [unknown(words, baton) for words in commands(block) if words[0] == "baton"]

    assert faults == [None, "baton runs fly", "baton runs ls --wings: --wings"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_target_of_make_exists(document: str) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    shown = [words[1:] for words in commands((ROOT / document).read_text()) if words[0] == "make"]

    assert {word for words in shown for word in words if "=" not in word and word[0] != "-"} <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    path = ROOT / document
    links = [link.partition("#")[0] for link in LINK.findall(path.read_text()) if "://" not in link]

    assert [link for link in links if link and not (path.parent / link).exists()] == []


def test_the_house_has_only_its_rooms() -> None:
    """The top level is fixed; what is not in the repository (environments, caches) does not count."""
    ignored = {line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()}
    known = {"workers", "orchestrator", "schemas", "deploy", "tests", "examples", "benchmarks"}

    assert {
        room for room in rooms - known - ignored if not room.startswith(".") and _has_source(ROOT / room)
    } == set()


def _has_source(folder: Path) -> bool:
    return any(path.is_file() and "__pycache__" not in path.parts for path in folder.rglob("*"))
