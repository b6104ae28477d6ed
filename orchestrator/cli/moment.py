"""A run as it was after one of its events."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from orchestrator.cli.output import console, print_json, print_output, unfolded
from orchestrator.cli.tree import picture
from orchestrator.cli.watch import event_line
from schemas.errors import Fault, InputError
from schemas.runs import RunState

if TYPE_CHECKING:
    from schemas.runs import RunMoment


def parse_moment(text: str) -> int | datetime:
    """The number of an event, or a time in ISO form. Raises `InputError`."""
    if text.isdecimal():
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        fault = Fault("", f"{text!r} is neither the number of an event nor a time like 2026-11-21T12:00:00")
        raise InputError("--at", [fault], next_step="baton runs events RUN") from None


def show_moment(view: RunMoment, *, json: bool, paths: bool = False) -> None:
    """Print the run as its events tell it, with what its agents had produced by then."""
    if json:
        print_json(view)
        return
    head = Text(f"event {view.event.number} of {view.events}  ", style="bold")
    console().print(Text.assemble(head, event_line(view.event)), soft_wrap=True)
    unfolded().print(picture(view, now=view.event.at, paths=paths))
    if view.state is RunState.COMPLETED:
        print_output(view.output)
