"""Follow a run: a live tree on a terminal, one line per event anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from rich.console import Console, Group
from rich.text import Text

from orchestrator.cli.output import as_json
from orchestrator.cli.tree import fitted, picture
from schemas.events import Event, EventKind
from schemas.runs import RUN_ENDED, RunView

if TYPE_CHECKING:
    from rich.live import Live

_BEAT = 0.2  # seconds between two looks at the events
_SLOW_BEAT = 1.0  # seconds after which the steps are read again though nothing happened
_LONGEST_DATA = 120
_VOICES = 3  # steps of which the last words are shown


class Source(Protocol):
    """The part of a client that is needed to follow a run."""

    def run(self, run_id: UUID) -> RunView: ...
    def events(self, run_id: UUID, after: int = 0) -> list[Event]: ...


@dataclass(frozen=True)
class Frame:
    """What there is to show at one moment."""

    view: RunView
    events: list[Event]
    """Those that no earlier frame held."""


def frames(
    client: Source,
    run_id: UUID,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Frame]:
    """Look at a run again and again until it has ended.

    Reading events is cheap, reading all steps of a wide run is not: they are read when something happened,
    and the pause grows with what the last reading took.
    """
    seen, view, due = 0, None, 0.0
    while True:
        began = clock()
        events = client.events(run_id, seen)
        if events or view is None or began >= due:
            view = client.run(run_id)
            due = began + _SLOW_BEAT
        seen = events[-1].number if events else seen
        if view.state in RUN_ENDED:
            yield Frame(view, events + client.events(run_id, seen))
            return
        yield Frame(view, events)
        pause(max(_BEAT, 3 * (clock() - began)))


def follow(
    client: Source, run_id: UUID, console: Console, pause: Callable[[float], None] = time.sleep
) -> RunView:
    """Show a run on `console` until it has ended, and return how it ended."""
    shown = _live if console.is_terminal else _lines
    return shown(frames(client, run_id, pause), console)


def event_line(event: Event) -> Text:
    """One event in one line."""
    when = event.at.astimezone().strftime("%H:%M:%S")
    return Text.assemble(
        (f"{when}  ", "dim"),
        f"{event.kind:<13}",
        f"  {event.path}" if event.path else "",
        (f"  {told(event)}", "dim"),
    )


def told(event: Event) -> str:
    """What an event says besides its kind and its step, not too long."""
    said = {name: value for name, value in event.data.items() if not _is_nothing(value)}
    data = as_json(said) if said else ""
    return data if len(data) <= _LONGEST_DATA else f"{data[:_LONGEST_DATA]}…"


def _is_nothing(value: object) -> bool:
    """Such as the usage of a step that called no model."""
    return not value or (isinstance(value, dict) and all(_is_nothing(inner) for inner in value.values()))


def _live(moments: Iterator[Frame], console: Console) -> RunView:
    from rich.live import Live

    view: RunView | None = None
    words = LastWords()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for frame in moments:
            view = frame.view
            words.hear(frame.events)
            _draw(live, view, words.lines(console.width), console)
    return _ended(view, console)


def _draw(live: Live, view: RunView, lines: Sequence[Text], console: Console) -> None:
    tree = fitted(view, now=datetime.now(UTC), height=console.height - 1 - len(lines))
    live.update(Group(tree, *lines), refresh=True)


class LastWords:
    """What the steps of a run are saying just now."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[object, str]] = {}
        """By path, with what it is said about."""

    def hear(self, events: Iterable[Event]) -> None:
        """Listen to what happened next. What a step says is over when something happens to it."""
        for event in events:
            about, before = self._said.pop(event.path, (None, ""))
            if event.kind is EventKind.STEP_DELTA:
                data = dict(event.data)
                text = data.pop("text")
                said = before + text if about == data else text
                self._said[event.path] = (data, said[-_LONGEST_DATA:])

    def lines(self, width: int) -> list[Text]:
        """One line for each of the steps that were heard last."""
        found = list(self._said.items())[-_VOICES:]
        return [_line(path, " ".join(said.split()), width) for path, (_, said) in found]


def _line(path: str, said: str, width: int) -> Text:
    room = max(width - len(path) - 4, 8)
    shown = said if len(said) <= room else f"…{said[1 - room :]}"
    return Text.assemble((f"{path}  ", "dim"), (shown, "italic"))


def _lines(moments: Iterator[Frame], console: Console) -> RunView:
    view: RunView | None = None
    told: set[str] = set()
    for frame in moments:
        view = frame.view
        for event in frame.events:
            console.print(event_line(event), soft_wrap=True)
        for note in view.notes:
            if note not in told:
                console.print(Text(f"! {note}", style="yellow"), soft_wrap=True)
        told = set(view.notes)
    assert view is not None  # noqa: S101  there is at least one frame
    return view


def _ended(view: RunView | None, console: Console) -> RunView:
    assert view is not None  # noqa: S101  there is at least one frame
    console.print(picture(view, now=datetime.now(UTC)))
    return view
