"""Of equal calls at the same time one is made, in the whole cluster, and its result answers others for a while."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

import pydantic_core

from orchestrator.tool_calls.cache import Busy, Hit, Mine, Missed, ToolCache
from schemas.errors import ToolError, ToolTimeout
from workers.hands import Line
from workers.tools.declared import Tool

FIRST_LOOK, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two looks at what another process computes: they grow."""


class Landed(NamedTuple):
    """The result of a call."""

    value: Any
    """As JSON data."""
    cached: bool
    """Whether another call has brought it."""


class NoResult(NamedTuple):
    """Why the call that others waited for has no result."""

    error: str


def key_of(tool: Tool, given: Mapping[str, Any], tenant: str) -> str:
    """What equal calls have in common: the tool, its arguments with those left out, and the tenant unless all share.

    Agents may have tools of the same name that do different things.
    """
    whole = _whole(tool, given)
    which = [tool.made_of, tool.spec.version, tool.spec.description, tool.spec.parameters]
    text = json.dumps([which, whole, None if tool.spec.cache_shared else tenant], sort_keys=True)
    return f"{tool.name}:{hashlib.sha256(text.encode()).hexdigest()}"


def _whole(tool: Tool, given: Mapping[str, Any]) -> Any:
    """The arguments with those left out, or as they were given where JSON does not tell them apart, as of a secret."""
    valid = tool.check(given)
    try:
        told = pydantic_core.to_jsonable_python(valid)
        if tool.check(told) == valid:
            return told
    except (ToolError, ValueError):  # what is not given as it is told
        pass
    return {"given": dict(given)}


class Flights:
    """The calls of one process whose results others wait for."""

    def __init__(self, cache: ToolCache, hands: Line) -> None:
        self._cache = cache
        self._hands = hands
        self._here: dict[tuple[int, str], asyncio.Future[Landed | NoResult | None]] = {}
        """Those that somebody in this process waits for or makes, by event loop and key."""

    async def result(
        self, tool: Tool, key: str, timeout: float, make: Callable[[], Awaitable[Any]]
    ) -> Landed:
        """The result of an equal call, or that of `make`. Raises `ToolError` as that does.

        Whoever waits, waits for `timeout` seconds at most, and hears the error of the call that it waited for.
        """
        loop = asyncio.get_running_loop()
        place, until = (id(loop), key), loop.time() + timeout
        while (flight := self._here.get(place)) is not None:
            await asyncio.wait({flight}, timeout=until - loop.time())
            if not flight.done():
                raise _late(tool, timeout)
            match flight.result():
                case Landed(value):
                    return Landed(value, cached=True)
                case NoResult(error):
                    raise ToolError(error)
        flight = self._here[place] = loop.create_future()
        outcome: Landed | NoResult | None = None
        try:
            outcome = await self._looked(tool, key, until, timeout, make)
        except ToolError as error:
            if not isinstance(error, _Late):
                outcome = NoResult(str(error))
            raise
        finally:
            del self._here[place]
            flight.set_result(outcome)
        return outcome

    async def _looked(
        self, tool: Tool, key: str, until: float, timeout: float, make: Callable[[], Awaitable[Any]]
    ) -> Landed:
        loop, holder = asyncio.get_running_loop(), uuid4()
        since: datetime | None = None
        pause = FIRST_LOOK
        while True:
            match await self._hands.call(self._cache.look, key, holder, since):
                case Hit(value):
                    return Landed(json.loads(value), cached=True)
                case Missed(error):
                    raise ToolError(error)
                case Mine() as mine:
                    return Landed(await self._made(tool, mine, make), cached=False)
                case Busy() as busy:
                    since = busy.since
                    if loop.time() > until:
                        raise _late(tool, timeout)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _made(self, tool: Tool, mine: Mine, make: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with self._renewed(mine):
                value = await make()
        except ToolError as error:
            await self._hands.call(self._cache.fail, mine, str(error).replace("\0", "�"))
            raise
        except BaseException:
            self._hands.submit(self._cache.leave, mine)
            raise
        text = _storable(value)
        if text is None:
            await self._hands.call(self._cache.leave, mine)
        else:
            await self._hands.call(self._cache.keep, mine, text, tool.spec.cache or 0.0)
        return value

    @asynccontextmanager
    async def _renewed(self, mine: Mine) -> AsyncIterator[None]:
        """Say again and again that this process still computes it."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self._cache.lease / 4)
                await self._hands.call(self._cache.renew, mine)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})


class _Late(ToolTimeout):
    """Whoever waited has waited long enough; the call itself may go on."""


def _late(tool: Tool, timeout: float) -> _Late:
    return _Late(f"tool {tool.name} took longer than {timeout:g} s: an equal call, which this one waited for")


def _storable(value: Any) -> str | None:
    """As JSON text; None for what Postgres has no room for, or Python could not read again."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError):
        return None
    return None if "\\u0000" in text else text
