"""What a terminal shows of steps that say something while they work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from orchestrator.cli.watch import LastWords
from schemas.events import Event, EventKind


def happened(path: str, what: EventKind, **data: Any) -> Event:
    return Event(run_id=UUID(int=1), number=1, kind=what, path=path, at=datetime.now(UTC), data=data)


def says(path: str, text: str, **about: Any) -> Event:
    return happened(path, EventKind.STEP_DELTA, text=text, **about)


def shown(*events: Event, width: int = 40) -> list[str]:
    words = LastWords()
    words.hear(events[:1])
    words.hear(events[1:])
    return [line.plain for line in words.lines(width)]


def test_the_last_words_of_a_step_are_joined_and_fit_into_a_line() -> None:
    assert shown(says("0", "Twice\na "), says("0", "day.")) == ["0  Twice a day."]
    assert shown(says("0", "x" * 50), says("0", "end"), width=20) == ["0  …" + "x" * 11 + "end"]


def test_what_is_about_something_else_begins_anew() -> None:
    assert shown(says("0", "thought", kind="thinking"), says("0", "answer", kind="text")) == ["0  answer"]


def test_words_are_gone_when_the_step_has_ended_and_only_a_few_steps_are_heard() -> None:
    assert shown(says("0", "a"), says("1", "b"), happened("0", EventKind.STEP_DONE)) == ["1  b"]
    assert shown(*(says(f"{number}", "a") for number in range(5))) == ["2  a", "3  a", "4  a"]
