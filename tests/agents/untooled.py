"""An agent that names tools that are not there, or not one."""

from __future__ import annotations

from tests.agents.tooled import look_up, model
from workers import tool


@tool(name="look_up")
def another(query: str) -> str:
    return query


writer = model("writer", "look_up", "serch")
search = tool(name="search")(another.function)
__all__ = ["look_up"]
