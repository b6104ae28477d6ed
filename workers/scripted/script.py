"""What a scripted provider says, and how it misbehaves: plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workers.scripted.log import Asked


@dataclass(frozen=True)
class Call:
    """One tool that the model wants called."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What the model says in one turn."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    output: Any = None
    """Structured output: given as the request asks for it, by its output tool or as JSON text."""
    delay: float = 0.0
    """Seconds before it begins."""
    pace: float = 0.0
    """Seconds before each piece of a stream."""
    tokens: tuple[int, int] | None = None
    """Input and output tokens; without, a quarter of the characters."""
    wrong: Literal["arguments", "body", "cut"] | None = None
    """Broken JSON in the arguments of its calls, or in all that it sends; or a connection that ends half-way."""


@dataclass(frozen=True)
class Refusal:
    """A request that is answered with an error."""

    status: int
    message: str = "scripted"
    retry_after: float | None = None
    """Seconds, as a header."""
    delay: float = 0.0


Turn = Reply | Refusal
Script = Sequence[Turn | Sequence[Turn]] | Callable[[Asked], Turn]
"""One entry for each turn of the model in a conversation, which is told by what stands in the request: a request that
is repeated is answered the same way. An entry that is a list is gone through as the turn is asked for again and again,
its last one for good: `[refuse(429, retry_after=1), text("hello")]`. A function decides each time: `lambda asked:
call("search")` never ends."""


def text(said: str, **others: Any) -> Reply:
    """The model says something. `others` are fields of `Reply`."""
    return Reply(text=said, **others)


def answer(output: Any, **others: Any) -> Reply:
    """The model gives its structured output."""
    return Reply(output=output, **others)


def call(name: str, /, **arguments: Any) -> Reply:
    """The model calls one tool, whether it exists or not."""
    return Reply(calls=(Call(name, arguments),))


def refuse(
    status: int, message: str = "scripted", *, retry_after: float | None = None, delay: float = 0.0
) -> Refusal:
    """The provider answers with an error, such as 429 or 500, after `delay` seconds."""
    return Refusal(status, message, retry_after, delay)


def turn_of(script: Script, asked: Asked) -> Turn:
    """What this request is answered with. A request that is not in the script gets an error that says so.

    Raises `TypeError` for what is no turn.
    """
    turn = _turn_of(script, asked)
    if not isinstance(turn, Reply | Refusal):
        raise TypeError(
            f"the script gave {turn!r}, which is no turn: write text(...), answer(...), call(...), refuse(...)"
        )
    return turn


def _turn_of(script: Script, asked: Asked) -> Turn:
    if callable(script):
        return script(asked)
    if asked.turn >= len(script):
        return Refusal(400, f"the script has {len(script)} turns, and this asks for another one")
    entry = script[asked.turn]
    if isinstance(entry, Reply | Refusal):
        return entry
    return entry if isinstance(entry, str) else entry[min(asked.again, len(entry) - 1)]
