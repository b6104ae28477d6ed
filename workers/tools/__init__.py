"""What agents may have done for them: how a tool is declared, what becomes of each call, and tools that come along."""

from workers.tools.builtin.database import sql_query
from workers.tools.builtin.files import list_files, read_file
from workers.tools.builtin.memory import search_memory
from workers.tools.builtin.python import run_python
from workers.tools.builtin.web import http_fetch
from workers.tools.mcp.declared import mcp_tools

__all__ = ["http_fetch", "list_files", "mcp_tools", "read_file", "run_python", "search_memory", "sql_query"]
