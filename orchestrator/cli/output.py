"""How things are printed: tables for people, JSON for programs, times in words."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.text import Text

STATE_STYLES = {
    "queued": "dim",
    "pending": "dim",
    "ready": "yellow",
    "running": "cyan",
    "open": "cyan",
    "completed": "green",
    "done": "green",
    "failed": "bold red",
    "dead": "bold red",
    "paused": "yellow",
    "waiting": "yellow",
    "skipped": "yellow",
    "cancelled": "yellow",
}


def console(*, stderr: bool = False) -> Console:
    """Where to print; results go to stdout, everything about the way there to stderr."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def print_json(value: Any) -> None:
    """Print models, or anything made of them, as JSON without credentials."""
    typer.echo(as_json(value, indent=2))


def as_json(value: Any, indent: int | None = None) -> str:
    """Models, or anything made of them, as JSON text without credentials: inputs are stored as they were given."""
    from pydantic_core import to_jsonable_python

    return json.dumps(unsaid(to_jsonable_python(value)), indent=indent, ensure_ascii=False)


def unsaid(data: Any) -> Any:
    """JSON data without credentials."""
    from orchestrator.masking.masker import discreet_data

    return discreet_data(data)[0]


def print_output(output: Any) -> None:
    """Print what a run produced, as it was stored: a text as it is, anything else as JSON."""
    text = output if isinstance(output, str) else json.dumps(output, indent=2, ensure_ascii=False)
    if sys.stdout.isatty() and not isinstance(output, str):
        console().print_json(text)
    else:
        typer.echo(text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table for people, or the sentence `empty` when it has no rows."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell), style=STATE_STYLES.get(str(cell), "")) for cell in row))
    if not table.row_count:
        typer.echo(empty)
        return
    unfolded().print(table)


def unfolded() -> Console:
    """Where to print what fits a terminal and is as long as it is anywhere else: a pipe has no edge to fold at."""
    out = console()
    if not out.is_terminal:
        out.width = 10_000
    return out


def print_hanging(line: Text, deeper: int = 4) -> None:
    """Print one line; where the terminal ends, it goes on in the next one, indented deeper than it began."""
    out = unfolded()
    margin = len(line.plain) - len(line.plain.lstrip()) + deeper
    for number, part in enumerate(line.wrap(out, max(20, out.width - margin))):
        part.rstrip()
        out.print(" " * margin if number else "", part, sep="")


def took(seconds: float) -> str:
    """A duration in few characters."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago something was."""
    return f"{took(max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds()))} ago"
