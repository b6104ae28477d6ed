"""Sessions with MCP servers, on the SDK: one for each server and event loop, opened when it is needed.

The SDK's contexts have to be left by the task that has entered them. So each session has a task of its own, in which it
lives until the server is gone or the event loop ends. Loaded in workers only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import httpx2
import mcp_types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from orchestrator.local.leash import leashed
from schemas.errors import AgentError, Permanent, ToolError
from workers.guards.pipes import logged
from workers.storable import storable, storable_data
from workers.tools.mcp.place import McpServer, Offered

log = logging.getLogger(__name__)

T = TypeVar("T")

OPENING = 30.0
"""Seconds that a server may take until it has said hello: some are downloaded first."""
FRESH = 60.0
"""Seconds for which what a server offers is not asked for again."""
LONGEST = 2_000
"""Characters of what a server says of its errors that are told."""
PAGES = 50
"""Pages of a list of tools after which no more are asked for."""
GONE = {mcp_types.CONNECTION_CLOSED, mcp_types.INVALID_REQUEST}
"""Errors after which a session is of no use: the server has ended, or knows nothing of it."""

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[McpServer, McpSession]] = WeakKeyDictionary()


def session_of(place: McpServer) -> McpSession:
    """The session with this server on the running event loop, which may not be open yet."""
    return _sessions.setdefault(asyncio.get_running_loop(), {}).setdefault(place, McpSession(place))


class McpSession:
    """What is said to one server, and what is known of it."""

    def __init__(self, place: McpServer) -> None:
        self._place = place
        self._opening: asyncio.Future[_Life] | None = None
        self._offered: list[Offered] = []
        self._told_by: _Life | None = None
        self._told_at = 0.0
        self._asking = asyncio.Lock()

    async def tools(self) -> list[Offered]:
        """Raises `AgentError` if the server cannot be reached."""
        async with self._asking:
            life = await self._life()
            if life is not self._told_by or time.monotonic() - self._told_at > FRESH:
                self._offered = [_offered(one) for one in await self._asked(_listed)]
                self._told_by, self._told_at = await self._life(), time.monotonic()
        return self._offered

    async def call(self, tool: str, arguments: Mapping[str, Any], key: str, max_bytes: int) -> Any:
        """What the tool answers, as JSON data. Raises `ToolError`, and `AgentError` if the server is gone."""
        meta = cast(Any, {"baton/idempotency-key": key})
        result = await self._asked(lambda client: client.call_tool(tool, dict(arguments), meta=meta))
        said = storable_data(_value(result))
        size = len(json.dumps(said, ensure_ascii=False).encode())
        if size > max_bytes:
            raise ToolError(f"the answer has {size} bytes, and may have {max_bytes}: ask for less")
        if result.is_error:
            raise ToolError(str(said))
        return said

    async def _asked(self, ask: Callable[[Client], Awaitable[T]]) -> T:
        """What the server answers; asked again in a new session if it knows nothing of this one, and did nothing."""
        for again in (True, False):
            life = await self._life()
            try:
                return await ask(life.client)
            except MCPError as error:
                if error.code in GONE:
                    life.over.set()
                if error.code == mcp_types.INVALID_REQUEST and again:
                    continue
                raise self._told(error) from None
            except (RuntimeError, ValidationError) as error:
                if life.over.is_set():
                    raise AgentError(
                        f"the MCP server {self._place.server} is gone: {_brief(error)}"
                    ) from None
                raise ToolError(f"it answered what it does not declare: {_brief(error)}") from None
        raise AssertionError  # the second time it answers or raises

    def _told(self, error: MCPError) -> AgentError:
        """What is wrong with a request the model hears; a server that is gone or broken is no fault of it."""
        server, said = f"the MCP server {self._place.server}", _brief(error.message)
        if error.code in GONE:
            return AgentError(f"{server} is gone: {said}")
        if error.code == mcp_types.INTERNAL_ERROR:
            return AgentError(f"{server} has failed: {said}")
        return ToolError(f"{server} refuses: {said}")

    async def _life(self) -> _Life:
        """An open session: the one there is, or a new one."""
        if self._opening is None or (self._opening.done() and not _is_open(self._opening)):
            self._opening = asyncio.get_running_loop().create_future()
            life = _Life(self._place)
            life.begin(self._opening)
        # Whoever waits for it may be cancelled, and others wait for it, too.
        return await asyncio.shield(self._opening)


def _is_open(opening: asyncio.Future[_Life]) -> bool:
    return not opening.cancelled() and opening.exception() is None and not opening.result().over.is_set()


class _Life:
    """One open session, from hello to its end."""

    def __init__(self, place: McpServer) -> None:
        self._place = place
        self.client: Client
        self.over = asyncio.Event()
        """The server is gone, or its session is of no use any longer."""

    def begin(self, opened: asyncio.Future[_Life]) -> None:
        # The event loop holds its tasks only weakly.
        self._task = asyncio.create_task(self._lived(opened), name=f"mcp {self._place.server}")

    async def _lived(self, opened: asyncio.Future[_Life]) -> None:
        try:
            transport = _watched(_transport(self._place), self.over)
            async with asyncio.timeout(OPENING) as clock, Client(transport) as self.client:
                clock.reschedule(None)
                opened.set_result(self)
                await self.over.wait()
        except asyncio.CancelledError:
            opened.cancel()
            raise
        except Exception as error:  # noqa: BLE001  told to whoever waits
            if opened.done():
                log.warning(
                    "the session with the MCP server %s has ended: %s",
                    self._place.server,
                    _brief(_first(error)),
                )
            else:
                opened.set_exception(_unreachable(self._place, _first(error)))
                opened.exception()  # whoever waited for it may have gone
        finally:
            self.over.set()


def _first(error: Exception) -> Exception:
    """The SDK raises groups of errors, which say nothing themselves."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _brief(told: object) -> str:
    """The beginning of what a server says went wrong: the model is told, and it stands in the step's error."""
    text = storable(str(told))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} [...]"


def _unreachable(place: McpServer, error: Exception) -> AgentError:
    if isinstance(error, AgentError):
        return error
    reason = f"it said nothing for {OPENING:g} s" if isinstance(error, TimeoutError) else _brief(error)
    return AgentError(f"the MCP server {place.server} cannot be reached: {reason or type(error).__name__}")


@asynccontextmanager
async def _transport(place: McpServer) -> AsyncIterator[Any]:
    if place.url is None:
        async with _started(place) as streams:
            yield streams
        return
    headers = {"Authorization": f"Bearer {_secret(place.key)}"} if place.key else {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(OPENING, read=None)) as http,
        streamable_http_client(place.url, http_client=http) as streams,
    ):
        yield streams


@asynccontextmanager
async def _started(place: McpServer) -> AsyncIterator[Any]:
    """The command as a child of this worker, on a leash: it ends when the worker does, however that ends."""
    program = shutil.which(place.command[0])
    if program is None:
        raise AgentError(f"{place.command[0]}, which is the MCP server {place.server}, is not installed here")
    first, *rest = leashed([program, *place.command[1:]])
    env = {name: _secret(name) for name in place.env}
    server = StdioServerParameters(command=first, args=rest, env=env, cwd=place.cwd)
    with logged(f"MCP server {place.server}") as said:
        async with stdio_client(server, errlog=said) as streams:
            yield streams


def _secret(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise Permanent(f"the environment variable {name} is not set")
    return value


@asynccontextmanager
async def _watched(transport: AbstractAsyncContextManager[Any], over: asyncio.Event) -> AsyncIterator[Any]:
    """The transport, which tells when the other side has closed it: a server that is gone is not asked again."""
    async with transport as (read, write):
        yield _Reading(read, over), write


class _Reading:
    """A stream of messages that tells of its end."""

    def __init__(self, stream: Any, over: asyncio.Event) -> None:
        self._stream = stream
        self._over = over

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._over.set()
            raise

    async def __aenter__(self) -> _Reading:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *ended: Any) -> Any:
        return await self._stream.__aexit__(*ended)


async def _listed(client: Client) -> list[mcp_types.Tool]:
    """All pages of what the server offers."""
    found: list[mcp_types.Tool] = []
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _offered(tool: mcp_types.Tool) -> Offered:
    """What the server says of itself is believed where it cannot do harm."""
    hints = tool.annotations
    reads_only = bool(hints and hints.read_only_hint)
    again = reads_only or bool(hints and hints.idempotent_hint)
    return Offered(tool.name, storable_data(tool.description or ""), tool.input_schema, reads_only, again)


def _value(result: mcp_types.CallToolResult) -> Any:
    """The structured answer, or else its texts."""
    if result.structured_content is not None and not result.is_error:
        return result.structured_content
    return "\n".join(_text(block) for block in result.content)


def _text(block: mcp_types.ContentBlock) -> str:
    if isinstance(block, mcp_types.TextContent):
        return block.text
    if isinstance(block, mcp_types.EmbeddedResource) and isinstance(
        block.resource, mcp_types.TextResourceContents
    ):
        return block.resource.text
    if isinstance(block, mcp_types.ResourceLink):
        return f"[{block.name}: {block.uri}]"
    return f"[{block.type}, which cannot be shown as text]"
