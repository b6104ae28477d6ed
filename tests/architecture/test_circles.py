"""No module of the house can reach itself through imports, lazy and type-only ones counted.

import-linter watches the packages; this walks the modules, and a circle inside one room is a circle too.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.architecture.house import FLOORS, ROOT, imports, module_name


def import_graph(root: Path) -> dict[str, set[str]]:
    files = {module_name(p, root): p for floor in FLOORS for p in sorted((root / floor).rglob("*.py"))}
    return {
        module: {name for _, name in imports(path, module) if name in files and name != module}
        # `from room import door`, said by another door of the room, is an edge between doors.
        - {module.rpartition(".")[0]}
        for module, path in files.items()
    }


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_house_has_no_circle() -> None:
    graph = import_graph(ROOT)
    assert len(graph) > 30, "the house was not found"

    assert not circle(graph)


def test_a_lazy_or_type_only_import_closes_a_circle(tmp_path: Path) -> None:
    for floor in FLOORS:
        (tmp_path / floor).mkdir()
        (tmp_path / floor / "__init__.py").touch()
    (tmp_path / "schemas" / "one.py").write_text("def late():\n    from schemas import two\n    return two\n")
    (tmp_path / "schemas" / "two.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import one\n"
    )

    assert set(circle(import_graph(tmp_path))) == {"schemas.one", "schemas.two"}
