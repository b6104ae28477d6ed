"""One terminal for many processes: each line carries the name of the process that wrote it, in its colour."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from orchestrator.masking.masker import discreet

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


class Lines:
    """Prints lines with a coloured name before them; safe to use from many threads."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._colours: dict[str, str] = {}
        self._width = 0

    def show(self, name: str, line: str) -> None:
        """Print a line that the process `name` wrote, with the colours it chose itself, and no credential."""
        self._print(name, Text.from_ansi(discreet(line)))

    def say(self, name: str, line: str) -> None:
        """Print what we have to say about the process `name`."""
        self._print(name, Text(line, style="bold"))

    def _print(self, name: str, line: Text) -> None:
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        self._width = max(self._width, len(name))
        prefix = (f"{name:<{self._width}} | ", colour)
        self._console.print(Text.assemble(prefix, line), soft_wrap=True, highlight=False)
