"""What all adapters have in common."""

from __future__ import annotations

import subprocess
import sys

FRAMEWORKS = {
    "autogen": "autogen_core",
    "langgraph": "langgraph",
    "openai_agents": "agents",
    "pydantic_ai": "pydantic_ai",
}


def test_importing_the_adapters_imports_no_framework() -> None:
    program = "import sys, workers.adapters; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    heavy = "langgraph langchain_core agents autogen_core autogen_agentchat crewai pydantic_ai openai"
    assert set(heavy.split()) & set(done.stdout.split()) == set()
    assert "workers" in done.stdout.split()


def test_a_framework_that_is_not_installed_is_one_sentence_and_a_command() -> None:
    program = f"""
import sys, workers.adapters
from schemas.errors import BatonError
for name, package in {FRAMEWORKS!r}.items():
    sys.modules[package] = None
    try:
        getattr(workers.adapters, name)
    except BatonError as error:
        print(name, "|", error, "|", error.next_step)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        f"{name} | {package} is not installed, which the adapter {name} needs."
        f" | pip install 'baton-agents[{name.replace('_', '-')}]'"
        for name, package in FRAMEWORKS.items()
    ]
