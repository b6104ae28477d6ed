"""Where an MCP server is, and what it says that it offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class McpServer:
    """Where a server is: a command that is started, or a URL."""

    server: str
    command: tuple[str, ...]
    env: tuple[str, ...]
    """Environment variables that the command sees, besides PATH, HOME and the like."""
    cwd: str | None
    url: str | None
    key: str | None
    """The environment variable with the credential for the URL."""


class Offered(NamedTuple):
    """A tool as its server describes it."""

    name: str
    description: str
    parameters: dict[str, Any]
    reads_only: bool
    idempotent: bool
