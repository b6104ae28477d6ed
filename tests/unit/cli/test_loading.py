"""Finding agents and workflows, and what a person is told when they cannot be found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.cli.up import unserved
from orchestrator.loading import load
from schemas.errors import DefinitionError, NotFound

AGENT = """
from orchestrator import workflow
from workers import agent

@agent
def {agent}(text: str) -> str:
    return text

flow = workflow("{name}", {agent})
"""

Write = Callable[[str, str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file below the current folder and forgets its module afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])

    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_of_the_current_folder(module: Write) -> None:
    module("mine.py", AGENT.format(agent="echo", name="flow"))

    found = load("mine")

    assert list(found.workflows) == ["flow"]
    assert found.agents["echo"].part.agents == (found.specs["echo"],)
    assert found.workflow("flow") is found.workflows["flow"]
    assert found.agent("echo").queue == "agent.echo"


def test_a_file_by_its_path_is_loaded_once(module: Write) -> None:
    module("deep/mine.py", AGENT.format(agent="echo", name="flow"))

    first, second = load("./deep/mine.py"), load("deep/mine.py")

    assert first.workflows["flow"] is second.workflows["flow"]


def test_several_modules_and_the_submodules_of_a_package(module: Write) -> None:
    module("one.py", AGENT.format(agent="echo", name="first"))
    module("pack/__init__.py", "import pack.inner")
    module("pack/inner.py", AGENT.format(agent="other", name="second"))

    found = load("one, pack")

    assert set(found.workflows) == {"first", "second"}
    assert set(found.specs) == {"echo", "other"}


def test_the_same_thing_imported_twice_is_one_thing(module: Write) -> None:
    module("one.py", AGENT.format(agent="echo", name="first"))
    module("two.py", "from one import echo, flow")

    assert set(load("one,two").workflows) == {"first"}


def test_one_name_for_two_things_is_refused_with_every_fault(module: Write) -> None:
    module("one.py", AGENT.format(agent="echo", name="flow"))
    module("two.py", AGENT.format(agent="echo", name="flow").replace("text: str", "text: int"))

    with pytest.raises(DefinitionError) as caught:
        load("one,two")

    assert [str(fault) for fault in caught.value.faults] == [
        "two: agent 'echo' differs from the one of this name in one",
        "two: workflow 'flow' differs from the one of this name in one",
    ]


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        ("", "No app is named"),
        (" , ", "No app is named"),
        ("no_such_module", "There is no module 'no_such_module'"),
        ("no_such.module", "There is no module 'no_such.module'"),
        ("./nowhere.py", "There is no file 'nowhere.py'"),
        ("empty", "'empty' holds neither a workflow nor an agent"),
        ("json.py", "'json.py' cannot be a module of the name 'json'"),
        ("my-app.py", "'my-app.py' cannot be a module of the name 'my-app'"),
    ],
)
def test_what_is_not_there_is_named(module: Write, app: str, sentence: str) -> None:
    module("empty.py", "x = 1")
    module("json.py", "x = 1")
    module("my-app.py", "x = 1")

    with pytest.raises(NotFound) as caught:
        load(app)

    assert str(caught.value).startswith(sentence)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("import json\nimport no_such_thing\n", "mine.py:2: ModuleNotFoundError: No module named"),
        ("x = 1\n\ny = x / 0\n", "mine.py:3: ZeroDivisionError: division by zero"),
        ("def broken(:\n", "mine.py:1: SyntaxError"),
        ("import json\njson.loads('[')\n", "mine.py:2: JSONDecodeError"),
        (
            "from schemas import Limit\nLimit(rate='60/x')\n",
            "mine.py:2: Limit: rate: String should match pattern",
        ),
        (
            "from schemas import Limit\nLimit()\n",
            "mine.py:2: Limit: Value error, a limit needs a concurrency, a rate, or both",
        ),
        ("import sys\nsys.exit(3)\n", "mine.py:2: SystemExit: 3"),
        ("import sys\nsys.exit()\n", "mine.py:2: SystemExit: it exits when it is imported"),
    ],
)
@pytest.mark.parametrize("app", ["mine", "./mine.py"])
def test_an_error_inside_is_named_with_its_line(module: Write, app: str, text: str, fault: str) -> None:
    module("mine.py", text)

    with pytest.raises(DefinitionError) as caught:
        load(app)

    assert str(caught.value.faults[0]).startswith(fault)
    assert "\n" not in str(caught.value.faults[0])
    assert "mine" not in sys.modules


def test_a_faulty_definition_speaks_for_itself(module: Write) -> None:
    module("mine.py", "from workers import agent\n@agent\ndef bad(x):\n    return x\n")

    with pytest.raises(DefinitionError, match="agent 'bad' cannot work"):
        load("mine")


def test_a_misspelt_name_is_answered_with_the_right_one(module: Write) -> None:
    module("mine.py", AGENT.format(agent="summarise", name="weekly-report"))
    found = load("mine")

    with pytest.raises(NotFound, match=r"no workflow 'weekly-reprot'; did you mean 'weekly-report'\?"):
        found.workflow("weekly-reprot")
    with pytest.raises(NotFound, match="no agent 'zzz'; there are: summarise"):
        found.agent("zzz")


def test_an_agent_that_nobody_finds_by_a_name_is_told_of(module: Write) -> None:
    module("mine.py", AGENT.format(agent="kept", name="all"))
    assert unserved(load("mine")) == []
    module("other.py", AGENT.format(agent="lost", name="some") + "\ndel lost\n")

    (told,) = unserved(load("other"))

    assert told.startswith("agent 'lost' of workflow 'some' gets no pool")
