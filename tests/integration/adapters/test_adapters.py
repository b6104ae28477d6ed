"""What all adapters have in common."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = {"langgraph": "langgraph"}


def test_importing_the_adapters_imports_no_framework() -> None:
    program = "import sys, workers.adapters; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    heavy = "langgraph langchain_core agents autogen_core autogen_agentchat crewai pydantic_ai openai"
    assert set(heavy.split()) & set(done.stdout.split()) == set()
    assert "workers" in done.stdout.split()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_that_is_not_installed_is_one_sentence_and_a_command(name: str) -> None:
    program = (
        f"import sys; sys.modules[{FRAMEWORKS[name]!r}] = None\n"
        "from schemas.errors import BatonError\n"
        f"try: from workers.adapters import {name}\n"
        "except BatonError as error: print(error, '|', error.next_step)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    said, _, command = done.stdout.strip().partition(" | ")
    assert said.endswith(f"is not installed, which the adapter {name} needs.")
    assert command == f"pip install 'baton-agents[{name.replace('_', '-')}]'"
