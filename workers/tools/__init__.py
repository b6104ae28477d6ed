"""What agents may have done for them: how a tool is declared, what becomes of each call, and tools that come along.

Those load on first use: a worker whose agents have none of them does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.tools.builtin.database import sql_query
    from workers.tools.builtin.files import list_files, read_file
    from workers.tools.builtin.memory import search_memory
    from workers.tools.builtin.python import run_python
    from workers.tools.builtin.web import http_fetch
    from workers.tools.mcp.declared import mcp_tools

__all__ = ["http_fetch", "list_files", "mcp_tools", "read_file", "run_python", "search_memory", "sql_query"]

_HOMES = {
    "http_fetch": "builtin.web",
    "list_files": "builtin.files",
    "mcp_tools": "mcp.declared",
    "read_file": "builtin.files",
    "run_python": "builtin.python",
    "search_memory": "builtin.memory",
    "sql_query": "builtin.database",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
