"""How an app's memory is declared: the language of its texts, and what makes vectors of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from schemas.errors import DefinitionError, Fault
from schemas.memory import MOST, MemorySettings
from schemas.usage import Usage

Vectors = Sequence[Sequence[float]]


class Embedded(NamedTuple):
    """What came of texts: as many vectors, and what they cost."""

    vectors: Vectors
    usage: Usage = Usage()


@dataclass(frozen=True, eq=False)
class Embedder:
    """Makes vectors of texts: those that mean the same point the same way."""

    name: str
    """What tells its vectors from those of others: `openai:text-embedding-3-small`."""
    function: Callable[[list[str]], Any]
    """`list[str] -> list[list[float]]`, or to an `Embedded`; sync or async."""
    worst: Callable[[list[str]], Usage] = lambda texts: Usage()
    """The most that it consumes of these texts, as far as that is known before."""


@dataclass(frozen=True)
class MemorySetup(MemorySettings):
    """How an app remembers. It stands in a module of the app, like its agents."""

    embed: Embedder | None = None

    @property
    def embedder(self) -> str | None:
        return self.embed.name if self.embed is not None else None


Function = Callable[[list[str]], Vectors | Embedded | Awaitable[Vectors | Embedded]]


def memory(*, embed: Embedder | Function | None = None, language: str = "english") -> MemorySetup:
    """Say how the agents of an app remember; assigned in one of its modules: `remembered = memory(embed=...)`.

    With `embed`, what `embedder(...)` gives or any function `list[str] -> list[list[float]]`, memories are searched by
    meaning and by words where the server has pgvector 0.8, and else by words. Vectors of one embedder are compared with
    its own only: after it was exchanged, older memories are found by their words. `language` is a text search
    configuration of Postgres. Raises `DefinitionError`.
    """
    if not language.isidentifier():
        raise DefinitionError("memory", [Fault("language", f"{language!r} is no text search configuration")])
    if embed is None or isinstance(embed, Embedder):
        return MemorySetup(language, embed)
    if not callable(embed):
        raise DefinitionError("memory", [Fault("embed", "it is no function from texts to vectors")])
    name = f"{getattr(embed, '__module__', '')}.{getattr(embed, '__qualname__', type(embed).__qualname__)}"
    return MemorySetup(language, Embedder(name, embed))


@dataclass(frozen=True)
class Memory:
    """What a model agent is shown of the past before it answers.

    `passages` memories that fit its input and have at least this score, of `keys` (see `ctx.memory.recall`); with
    `session` also the latest `turns` of the conversation of the run's key, which its own answer then joins.
    """

    passages: int = 5
    least_score: float = 0.0
    keys: str | tuple[str, ...] | None = None
    """Without, those of the run's key and those of nobody in particular."""
    session: bool = False
    turns: int = 20

    def __post_init__(self) -> None:
        """Raises `DefinitionError`."""
        if not 0 <= self.passages <= MOST or not 0 <= self.least_score <= 1 or self.turns < 1:
            said = f"passages go from 0 to {MOST}, least_score from 0 to 1, turns from 1"
            raise DefinitionError("memory", [Fault("", said)])
