"""An MCP server that tells everybody its credential, and what it is asked: `python -m tests.agents.spiller`."""

from __future__ import annotations

import os
import sys

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("spiller")


@server.tool()
def tell(text: str) -> str:
    print("asked with", text, os.environ["SPILLED_TOKEN"], file=sys.stderr, flush=True)
    return f"{os.environ['SPILLED_TOKEN']} {text}"


@server.tool()
def refuse(text: str) -> str:
    raise ToolError(f"not with {os.environ['SPILLED_TOKEN']}, {text}")


if __name__ == "__main__":
    print("it begins with", os.environ["SPILLED_TOKEN"], file=sys.stderr, flush=True)
    server.run()
