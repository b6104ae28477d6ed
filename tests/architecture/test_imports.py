"""Every file of the tests can be collected. Read, not imported: to collect them all takes 20 s of a processor.

What only happens while a module is executed, such as a library that lacks a name, fails the run of that file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.house import FLOORS, ROOT, python_files, shown, tree

OURS = (*FLOORS, "tests", "examples", "benchmarks", "deploy")


def module_path(name: str) -> Path | None:
    """The file of one of our modules; of a folder without a file of its own the folder."""
    path = ROOT.joinpath(*name.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py", path)
    return next((one for one in found if one.is_file() or one.is_dir()), None)


@cache
def bound(path: Path) -> frozenset[str]:
    """The names that a module has when it was imported."""
    if path.is_dir():
        return frozenset()
    module = tree(path)
    names = set(_bound(module.body))
    if "__getattr__" in names:  # it gives what it lists
        names |= {
            node.value
            for node in ast.walk(module)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    return frozenset(names)


def _bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from ((one.asname or one.name.partition(".")[0]) for one in names)
            case ast.Assign() | ast.AnnAssign() | ast.For() | ast.With():
                yield from (
                    one.id
                    for one in ast.walk(node)
                    if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
                )
        for part in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = getattr(node, part, [])
                yield from _bound(
                    [
                        one
                        for each in inner
                        for one in (each.body if isinstance(each, ast.ExceptHandler) else [each])
                    ]
                )


def missing(module: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """What a module imports of ours that is not there."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            wanted = [(one.name, None) for one in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            wanted = [(node.module, one.name) for one in node.names]
        else:
            continue
        for source, name in wanted:
            if source.partition(".")[0] not in OURS:
                continue
            path = module_path(source)
            if path is None:
                yield node, source
            elif name not in (None, "*") and name not in bound(path) and not module_path(f"{source}.{name}"):
                yield node, f"{source}.{name}"


def test_every_folder_of_tests_is_a_package() -> None:
    """Else two files of one name are one module."""
    folders = {path.parent for path in python_files("tests")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_what_tests_import_of_ours_is_there() -> None:
    files = python_files("tests", "examples", "benchmarks")
    assert [f"{shown(path, node)} {name}" for path in files for node, name in missing(tree(path))] == []


def test_no_test_stands_twice_in_a_file() -> None:
    """The second one would replace the first, which nobody would run."""
    twice = []
    for path in python_files("tests"):
        seen: set[str] = set()
        for node in tree(path).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                twice += [shown(path, node)] if node.name in seen else []
                seen.add(node.name)
    assert twice == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from tests.support import eventually", []),
        ("from tests.support import evntually", ["tests.support.evntually"]),
        ("from tests.suport import eventually", ["tests.suport"]),
        ("import tests.integration.nowhere", ["tests.integration.nowhere"]),
        ("from tests.integration import engine, engin", ["tests.integration.engin"]),
        ("from schemas import Price, Prise", ["schemas.Prise"]),
        ("from workers.adapters import langgraph, langraph", ["workers.adapters.langraph"]),
        ("from nobody import anything", []),
        ("def test():\n    from workers.loop import LoopTread", ["workers.loop.LoopTread"]),
    ],
)
def test_an_import_of_what_is_not_there_is_noticed(line: str, found: list[str]) -> None:
    assert [name for _, name in missing(ast.parse(line))] == found
