"""What a run produced, as its app wants it shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from orchestrator.cli.output import console, print_output

if TYPE_CHECKING:
    from schemas.runs import RunView


def show_output(view: RunView, *, readable: bool | None = None) -> None:
    """Print the output of a completed run.

    For people (a terminal, or `readable`), a module that holds the workflow and a function `render` says how: it
    takes the output as JSON data and returns what Rich can print. Everything else gets JSON.
    """
    render = _renderer(view.workflow) if readable or (readable is None and sys.stdout.isatty()) else None
    if render is None:
        print_output(view.output)
    else:
        console().print(render(view.output))


def _renderer(workflow: str) -> Any:
    from orchestrator.cli import environment
    from schemas.settings import settings
    from schemas.workflows import Workflow

    for module in environment.loaded().modules if settings().app else ():
        held = [value for value in vars(module).values() if isinstance(value, Workflow)]
        if any(one.name == workflow for one in held) and callable(getattr(module, "render", None)):
            return module.render
    return None
