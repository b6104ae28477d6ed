"""Who hears what tools give, before it is kept and when it is told: a plain agent, or a model."""

from __future__ import annotations

from typing import Any, Protocol

from schemas.errors import ToolError
from workers.journal import Found
from workers.tools.declared import Tool


class Listener(Protocol):
    """Whoever hears what tools give."""

    async def weigh(self, tool: Tool, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry of the journal, `result` or `error`, with what it adds to that."""
        ...

    def told(self, tool: Tool, found: Found) -> Any:
        """The result, of an entry. Raises `ToolError` for an error."""
        ...


class Plain:
    """Hears it as it is."""

    async def weigh(self, tool: Tool, entry: dict[str, Any]) -> dict[str, Any]:
        return entry

    def told(self, tool: Tool, found: Found) -> Any:
        if "error" in found.value:
            raise ToolError(found.value["error"])
        return found.value["result"]
