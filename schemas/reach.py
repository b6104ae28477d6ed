"""What agents need from outside, as those know it who only look whether it is there."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Reached(Protocol):
    """A key, or a server."""

    @property
    def kind(self) -> str:
        """In a word, such as `model` or `mcp`."""
        ...

    @property
    def what(self) -> str:
        """Its name; several agents may reach the same."""
        ...

    def look(self) -> str:
        """What is there, in a sentence. Raises `BatonError`, with what mends it, if it is not."""
        ...
