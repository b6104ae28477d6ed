"""Effects that a call of a tool has once, however often it is made again, and not when its time is over."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pydantic_core

from orchestrator.tool_calls.fences import Behind, Fences, Holder, Over
from schemas.errors import CallAbandoned, ToolError
from workers.hands import Line


class Unclear(ToolError):
    """It may have had its effect: it must not be done again, nor anything in its place."""


UNKNOWN = "it was begun before, and nobody knows how it ended: it is not done again, find out first"


class Effects:
    """The fences of one attempt."""

    def __init__(self, fences: Fences, holder: Holder, hands: Line, masked: Callable[[Any], Any]) -> None:
        """What is kept is `masked` before."""
        self._masked = masked
        self._fences = fences
        self._holder = holder
        self._hands = hands

    def once(self, key: str, act: Callable[[], Any]) -> Any:
        """What `act` returns, or returned when it was done before, as JSON data.

        What raises `ToolError` has done nothing, and may be tried again. Raises `ToolError` if it was begun before and
        nobody knows how it ended, and `CallAbandoned` if the attempt is over.
        """
        token = uuid4()
        found = self._found(key, token)
        if found is not None:
            return json.loads(found)
        try:
            result = act()
        except Unclear:
            raise
        except ToolError:
            self._fences.drop(key, token)
            raise
        return self._done(key, token, result)

    async def awaited(self, key: str, act: Callable[[], Awaitable[Any]]) -> Any:
        """As `once`, on the event loop."""
        token = uuid4()
        found = await self._hands.call(self._found, key, token)
        if found is not None:
            return json.loads(found)
        try:
            result = await act()
        except Unclear:
            raise
        except ToolError:
            await self._hands.call(self._fences.drop, key, token)
            raise
        return await self._hands.call(self._done, key, token, result)

    def _found(self, key: str, token: UUID) -> str | None:
        """What came of it, as JSON text; None if it is to be done now."""
        match self._fences.put(self._holder, key, token):
            case Behind(None):
                raise Unclear(UNKNOWN)
            case Behind(result):
                return result
            case Over():
                raise CallAbandoned("its attempt is over: it must have no effect now")
        return None

    def _done(self, key: str, token: UUID, result: Any) -> Any:
        text = pydantic_core.to_json(self._masked(result)).decode()
        self._fences.end(key, token, text)
        return json.loads(text)
