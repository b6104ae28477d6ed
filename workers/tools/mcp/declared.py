"""The tools of one MCP server, as an agent is given them."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.credentials import own
from orchestrator.definitions.limits import limit_faults
from schemas.breakers import Breaker
from schemas.errors import AgentError, DefinitionError, Fault, Permanent
from schemas.limits import Limit
from schemas.tools import Risk
from workers.tools.call import ToolCall
from workers.tools.declared import Tool, schema_tool
from workers.tools.mcp.place import McpServer, Offered

if TYPE_CHECKING:
    from workers.tools.mcp.session import McpSession

LOOK = 10.0
"""Seconds after which `baton doctor` waits for a server no longer."""
SHOWN = 8
"""Names of tools that it shows."""
LONGEST = 64
"""Characters of a name that models take."""
MOST = 500
"""Tools of one server that an agent is given: no model takes more, and each is checked in each attempt."""
LARGEST = 50_000
"""Characters of a tool's description and of its schema, which the model is told in each of its calls."""


@dataclass(frozen=True, eq=False)
class McpTools:
    """A `Toolset`: its tools are known only when somebody looks."""

    place: McpServer
    only: tuple[str, ...]
    prefix: str
    risk: Risk | Mapping[str, Risk] | None
    limits: tuple[Limit, ...]
    breaker: Breaker | None
    cache: float | None
    timeout: float
    max_bytes: int

    @property
    def name(self) -> str:
        return f"mcp:{self.place.server}"

    async def tools(self) -> Sequence[Tool]:
        """Those that the server offers now, of which the agent may have. Starts the server, or connects to it.

        Raises `Permanent` for a tool that it does not offer, and `AgentError` if it cannot be reached.
        """
        session = await self._session()
        offered = {one.name: one for one in await session.tools()}
        if missing := [one for one in self.only if one not in offered]:
            raise Permanent(
                f"the MCP server {self.place.server} does not offer {', '.join(missing)}: "
                f"it offers {', '.join(sorted(offered)) or 'nothing'}"
            )
        given = [one for one in offered.values() if not self.only or one.name in self.only]
        if len(given) > MOST:
            raise Permanent(
                f"the MCP server {self.place.server} offers {len(given)} tools, and an agent is given {MOST} at most:"
                " name those that it may call, mcp_tools(..., only=[...])"
            )
        return [self._tool(session, one) for one in given]

    kind = "mcp"

    @property
    def what(self) -> str:
        return f"{self.place.server} {self.place.url or ' '.join(self.place.command)}"

    def look(self) -> str:
        """For `baton doctor`: starts the server, or connects to it, on an event loop of its own."""
        try:
            names = [tool.name for tool in asyncio.run(self._looked())]
        except TimeoutError:
            raise AgentError(
                f"the MCP server {self.place.server} said nothing for {LOOK:g} s", next_step=self._mend()
            ) from None
        except AgentError as error:
            raise AgentError(str(error), next_step=self._mend()) from None
        number = f"{len(names)} tool{'' if len(names) == 1 else 's'}"
        shown = f"{', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
        return f"The MCP server {self.place.server} answers, with {number}: {shown}."

    async def _looked(self) -> Sequence[Tool]:
        async with asyncio.timeout(LOOK):
            return await self.tools()

    def _mend(self) -> str:
        if self.place.url is not None:
            parts = urlsplit(self.place.url)
            return f"start the server at {parts.scheme}://{parts.netloc}{parts.path}, or mend its url or key"
        return own(f"try by hand: {shlex.join(self.place.command)}")

    async def _session(self) -> McpSession:
        try:
            session_of = await asyncio.to_thread(_loaded)
        except ModuleNotFoundError as error:
            raise Permanent(f"{error.name} is missing: pip install 'baton-agents[mcp]'") from error
        return session_of(self.place)

    def _tool(self, session: McpSession, offered: Offered) -> Tool:
        async def call(told: ToolCall, arguments: Mapping[str, Any]) -> Any:
            return await session.call(offered.name, arguments, told.idempotency_key, self.max_bytes)

        size = len(offered.description) + len(json.dumps(offered.parameters))
        if size > LARGEST:
            raise Permanent(
                f"the MCP server {self.place.server} describes its tool {offered.name[:LONGEST]} with {size}"
                f" characters, and may with {LARGEST}: leave it out, mcp_tools(..., only=[...])"
            )
        try:
            return schema_tool(
                re.sub(r"[^a-zA-Z0-9_-]", "_", f"{self.prefix}{offered.name}")[:LONGEST],
                call,
                parameters=offered.parameters,
                description=offered.description,
                timeout=self.timeout,
                limits=self.limits,
                breaker=self.breaker,
                cache=self.cache if offered.reads_only else None,
                risk=self._risk(offered),
                idempotent=offered.idempotent,
            )
        except DefinitionError as error:
            raise Permanent(f"the MCP server {self.place.server} offers what is no tool: {error}") from None

    def _risk(self, offered: Offered) -> Risk:
        declared = self.risk.get(offered.name) if isinstance(self.risk, Mapping) else self.risk
        return declared or ("low" if offered.reads_only else "medium")


def mcp_tools(
    server: str,
    *,
    command: Sequence[str] = (),
    env: Sequence[str] = (),
    cwd: str | None = None,
    url: str | None = None,
    key: str | None = None,
    only: Sequence[str] = (),
    prefix: str | None = None,
    risk: Risk | Mapping[str, Risk] | None = None,
    limits: Sequence[Limit] = (),
    breaker: Breaker | None = None,
    cache: float | None = None,
    timeout: float = 30.0,
    max_bytes: int = 200_000,
) -> McpTools:
    """The tools of an MCP server, for `llm_agent(tools=[...])`: checked, allowed, limited, logged and kept like others.

    The server is a `command` that the worker starts, when an agent first needs it, and that ends with the worker; or
    a `url` (streamable HTTP), for which the environment variable `key` may hold a bearer token. A command sees PATH,
    HOME and the like, and the environment variables that `env` names. `only` are the tools, as the server names them,
    that the agent may call; to the model they are called `SERVER_NAME`, or with another `prefix`. `risk` is for all of
    them or by name; without, those that the server says only read are low, the others medium. `limits` and `breaker`
    are those of each of its tools; for `cache` seconds a result answers equal calls of those that the server says only
    read. Answers larger than `max_bytes` are refused. `timeout` is in seconds for one call. Nothing is started before
    a worker needs it. Raises `DefinitionError`.
    """
    faults = limit_faults(limits)
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_-]*", server):
        faults.append(Fault("", "a server has a name like docs or my_files"))
    if bool(command) == bool(url):
        faults.append(Fault("", "name a command or a url"))
    if isinstance(command, str):
        faults.append(Fault("command", "it is a list of words: no shell is asked"))
    if url is not None:
        faults += _faults_of(url)
    if key is not None and url is None:
        faults.append(Fault("key", "only a url has one; name the variables that a command may see as env"))
    if timeout <= 0 or max_bytes < 1 or (cache is not None and cache <= 0):
        faults.append(Fault("", "timeout, cache and max_bytes must be positive"))
    if breaker is not None and not isinstance(breaker, Breaker):
        faults.append(Fault("breaker", f"it is Breaker(...), not {breaker!r}"))
    if faults:
        raise DefinitionError(f"MCP server {server!r}", faults)
    place = McpServer(server, tuple(command), tuple(env), cwd, url, key)
    shown = f"{server}_" if prefix is None else prefix
    return McpTools(place, tuple(only), shown, risk, tuple(limits), breaker, cache, timeout, max_bytes)


def _faults_of(url: str) -> list[Fault]:
    parts = urlsplit(url)
    faults = []
    if parts.scheme not in ("http", "https") or not parts.hostname:
        faults.append(Fault("url", "it is no http(s) URL"))
    if parts.username or parts.password:
        faults.append(Fault("url", "a URL is no place for credentials: name their variable as key"))
    return faults


def _loaded() -> Callable[[McpServer], McpSession]:
    """Load the SDK, which takes a moment, and only where an agent needs it."""
    from workers.tools.mcp.session import session_of

    return session_of
