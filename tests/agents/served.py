"""An MCP server, on stdio or at a port: `python -m tests.agents.served [PORT]`; and a model agent with its tools."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel

server = MCPServer("served")
READS = ToolAnnotations(read_only_hint=True)


class Sum(BaseModel):
    sum: int


@server.tool(annotations=READS)
def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    return Sum(sum=a + b)


@server.tool(structured_output=False)
def say(text: str) -> str:
    """Say a text again."""
    return text


@server.tool()
def fail(reason: str) -> str:
    raise ToolError(reason)


@server.tool()
def whoami(names: list[str]) -> dict[str, Any]:
    """The server's process, and what it sees of the environment."""
    return {"pid": os.getpid(), "env": {name: os.environ.get(name) for name in names}}


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def key(ctx: Context[Any]) -> str:
    """The idempotency key of this call."""
    meta: Any = ctx.request_context.meta
    return str(meta["baton/idempotency-key"])


@server.tool()
async def wait(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "waited"


@server.tool(name="odd.name/of it")
def odd() -> int:
    return 1


@server.tool()
def die() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


class Guarded:
    """Lets through who bears the token."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._token = f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and dict(scope["headers"]).get(b"authorization") != self._token:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


def main(port: str | None = None) -> None:
    if log := os.environ.get("TEST_SERVED_LOG"):
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()}\n")
    if port is None:
        if "TEST_STUBBORN" in os.environ:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.run()
        return
    import uvicorn

    app: Any = server.streamable_http_app()
    if token := os.environ.get("TEST_SERVED_TOKEN"):
        app = Guarded(app, token)
    uvicorn.run(app, port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
