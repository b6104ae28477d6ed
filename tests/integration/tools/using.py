"""Calls a tool as the loop of a model does."""

from __future__ import annotations

import asyncio
from typing import Any

from workers.tools.call import ToolCall
from workers.tools.declared import Tool

KEY = "run:0:3"


def use(tool: Tool, /, **arguments: Any) -> Any:
    """The result of a call, as JSON data. Raises `ToolError`."""
    return asyncio.run(used(tool, **arguments))


async def used(tool: Tool, /, **arguments: Any) -> Any:
    call = ToolCall(tool.name, KEY, "default", {})
    given = [call] if tool.takes_call else []
    checked = tool.check(arguments)
    if tool.is_async:
        return tool.give(await tool.function(*given, **checked))
    return tool.give(await asyncio.to_thread(tool.function, *given, **checked))
