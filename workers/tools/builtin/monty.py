"""Python in pydantic-monty: an interpreter that has no way to reach a file or a network, in a process of its own."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from pydantic_monty import (
    AsyncMonty,
    CollectString,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
    ResourceLimits,
)

from schemas.errors import AgentError, ToolError
from workers.tools.builtin.limits import SandboxLimits

_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[AsyncMonty]] = WeakKeyDictionary()
"""Processes that are ready, as many as there are processors. They end with this one, or with their pool."""


async def run(code: str, limits: SandboxLimits) -> tuple[Any, str]:
    """The last value and what was printed. Raises `ToolError`. A program that is given up is killed."""
    allowed = ResourceLimits(max_feed_duration_secs=limits.seconds, max_memory=limits.memory)
    printed = CollectString(max_bytes=limits.max_bytes)
    try:
        # A sleep has no use here: it is over at once.
        async with (await _pool()).checkout(limits=allowed, os_policy={"sleep": "zero"}) as session:
            return await session.feed_run(code, print_callback=printed), printed.output
    except (MontySyntaxError, MontyRuntimeError) as error:
        raise ToolError(error.display()) from None
    except MontyCrashedError as error:
        raise ToolError(f"the program has ended its sandbox: {error}") from None
    except MontyError as error:
        raise AgentError(f"the sandbox has failed: {error}") from None


async def _pool() -> AsyncMonty:
    opening = _pools.get(asyncio.get_running_loop())
    if opening is None:
        opening = asyncio.create_task(_opened())
        _pools[asyncio.get_running_loop()] = opening
    return await asyncio.shield(opening)


async def _opened() -> AsyncMonty:
    return await AsyncMonty(min_processes=0).__aenter__()
