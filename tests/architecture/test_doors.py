"""Some things enter the house by one door only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.house import FLOORS, ROOT, docstrings, imports, module_name, python_files, shown, tree

STATEMENT = re.compile(
    r"""\s*(
        SELECT\s+(\d|\*|\w+\(|.+\sFROM\s) | INSERT\s+INTO\s | UPDATE\s+\S+(\s+\w+)?\s+SET\s | DELETE\s+FROM\s
      | WITH\s+(RECURSIVE\s+)?\w+(\s*\(.*?\))?\s+AS\s+(MATERIALIZED\s+)?\( | TRUNCATE\s | COPY\s+\w+
      | (CREATE|ALTER|DROP)\s+(TABLE|INDEX|UNIQUE|TYPE|VIEW|FUNCTION|SCHEMA|DATABASE|ROLE|EXTENSION)\s
      | LISTEN\s+\w+ | NOTIFY\s+\w+
    )""",
    re.VERBOSE | re.DOTALL,
)

STORE = ROOT / "orchestrator" / "store"
# These speak with a server about the server, before there is a store or whether there is one or not.
OF_THE_SERVER = {
    ROOT / "orchestrator" / "local" / "postgres.py",
    ROOT / "orchestrator" / "doctor" / "postgres.py",
}


def statements(path: Path) -> Iterator[ast.Constant]:
    """String constants that look like SQL, parts of f-strings included and documentation excluded."""
    module = tree(path)
    prose = docstrings(module)
    for node in ast.walk(module):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in prose:
            continue
        if STATEMENT.match(node.value):
            yield node


def test_sql_stands_in_the_store_only() -> None:
    files = [
        p for p in python_files(*FLOORS, "examples") if STORE not in p.parents and p not in OF_THE_SERVER
    ]

    assert [shown(path, node) for path in files for node in statements(path)] == []


def test_statements_about_the_server_name_no_table_of_the_store() -> None:
    from orchestrator.store.schema import metadata

    ours = re.compile(rf"\b({'|'.join(metadata.tables)})\b")
    found = [node for path in OF_THE_SERVER if path.exists() for node in statements(path)]

    assert [node.value for node in found if ours.search(str(node.value))] == []


def test_sql_is_recognised() -> None:
    found = [path for path in python_files("orchestrator/store") if any(statements(path))]

    assert {"attempt_queries.py", "view_queries.py"} <= {path.name for path in found}


@pytest.mark.parametrize("text", ["Select a workflow from the list", "UPDATE the README", "with x as (y)"])
def test_prose_is_not_sql(text: str) -> None:
    assert not STATEMENT.match(text)


def test_only_the_canvas_imports_celery_canvas() -> None:
    # Celery's top level hands the same names out.
    names = {"celery.canvas"} | {
        f"celery.{name}" for name in ("chain", "chord", "group", "signature", "subtask")
    }
    doors = {
        path.relative_to(ROOT).as_posix()
        for path in python_files(*FLOORS)
        for _, name in imports(path, module_name(path))
        if name in names
    }

    assert doors == {"orchestrator/messaging/canvas.py"}


def test_the_middle_floor_names_no_code_of_the_top_floor() -> None:
    """Not even by `import_module("workers…")`, which no import graph shows."""
    by_name = [
        shown(path, call)
        for path in python_files("orchestrator", "schemas")
        for call in ast.walk(tree(path))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("import_module", "__import__"))
        for given in call.args
        if isinstance(given, ast.Constant) and str(given.value).partition(".")[0] == "workers"
    ]

    assert by_name == []


def test_nothing_sleeps_in_the_tests() -> None:
    """They poll an assertion: `tests.support.eventually` is the one place that waits between two looks.

    The agents that tests run may be slow: that is what they are there for.
    """
    sleeping = [
        shown(path, node)
        for path in python_files("tests")
        if path != ROOT / "tests" / "support.py" and path.parent != ROOT / "tests" / "agents"
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "time"
            and "sleep" in [a.name for a in node.names]
        )
    ]

    assert sleeping == []
