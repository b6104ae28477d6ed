from __future__ import annotations

import asyncio
from pathlib import Path

from examples import hello as module
from examples.hello import Greeting, Name, casual, formal, hello, letter, tidy
from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.produced import Shape


def test_it_is_as_short_as_promised() -> None:
    lines = Path(module.__file__).read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 20


def test_the_workflow_compiles() -> None:
    assert compile_workflow(hello).shape("1/join", "1") is Shape.LIST


def test_it_greets() -> None:
    async def run() -> Greeting:
        name = await tidy(Name(text=" ada   lovelace "))
        greetings = await asyncio.gather(formal(name), casual(name))
        found: Greeting = await letter(list(greetings))
        return found

    assert asyncio.run(run()).text == "Good day, Ada Lovelace. Hi Ada!"
