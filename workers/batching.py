"""One call of an agent for several of its steps, whatever runs they belong to.

Each step stays an attempt of its own, with its claim, its timeout, its outcome and its retries; what they share is the
call of the function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from pydantic import Field

from schemas.base import Frozen
from schemas.errors import AgentError, Permanent
from workers.context import Context
from workers.endings import PutOff

SHRINK = 4
"""By how much each further attempt of a step lowers the size of its batch: what failed with many is tried with few,
so that one input with which the whole call fails ends by itself."""


class Batch(Frozen):
    """Waiting steps of an agent that a worker process gives to one call of its function."""

    size: int = Field(gt=1, le=10_000)
    """Steps in a call at most; so many are called at once."""
    within: float = Field(default=0.2, gt=0, le=60)
    """Seconds that the first of them waits for others, and which count for its timeout."""


class _Waiting(NamedTuple):
    ctx: Context
    value: Any
    given: asyncio.Future[Any]


@dataclass
class _Gathering:
    """The steps that wait for the next call."""

    size: int
    waiting: list[_Waiting] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Batches:
    """The calls of one agent. Its steps wait on an event loop; nothing is shared between two of those."""

    def __init__(
        self, agent: str, batch: Batch, call: Callable[[list[Context], list[Any]], Awaitable[Any]]
    ) -> None:
        """`call` gets one context and one input of each step, and gives their results in that order."""
        self._agent = agent
        self._batch = batch
        self._call = call
        self._gatherings: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, _Gathering]] = (
            WeakKeyDictionary()
        )
        self._running: set[asyncio.Task[None]] = set()

    async def result(self, ctx: Context, value: Any) -> Any:
        """The result for this step, once its batch was called. Raises what the call gave or raised for it."""
        loop = asyncio.get_running_loop()
        ctx._keeping.is_shared = True
        size = max(1, self._batch.size // SHRINK ** (ctx.attempt - 1))
        gathering = self._gatherings.setdefault(loop, {}).setdefault(size, _Gathering(size))
        given: asyncio.Future[Any] = loop.create_future()
        gathering.waiting.append(_Waiting(ctx, value, given))
        if len(gathering.waiting) >= size:
            self._begin(gathering)
        elif gathering.timer is None:
            gathering.timer = loop.call_later(self._batch.within, self._begin, gathering)
        return await given

    def _begin(self, gathering: _Gathering) -> None:
        if gathering.timer is not None:
            gathering.timer.cancel()
        waiting, gathering.waiting, gathering.timer = gathering.waiting, [], None
        # Some may have been stopped meanwhile.
        wanted = [one for one in waiting if not one.given.done()]
        if not wanted:
            return
        task = asyncio.get_running_loop().create_task(self._make(wanted), name=f"batch of {self._agent}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        _stop_when_unwanted(task, wanted)

    async def _make(self, wanted: Sequence[_Waiting]) -> None:
        outcomes: list[Any]
        try:
            results = await self._call([one.ctx for one in wanted], [one.value for one in wanted])
            outcomes = self._each(results, len(wanted))
        except Exception as error:  # noqa: BLE001  whatever an agent raises is an outcome of its steps
            outcomes = [error] * len(wanted)
        except SystemExit as error:
            outcomes = [AgentError(f"it tried to end its process: {error!r}")] * len(wanted)
        except asyncio.CancelledError as error:
            outcomes = [AgentError(f"it was cancelled from inside: {error}")] * len(wanted)
        except PutOff as put_off:
            # What the call has to wait for, all of its steps wait for.
            for one in wanted:
                one.ctx._keeping.put_off = put_off
            outcomes = [put_off] * len(wanted)
        for one, outcome in zip(wanted, outcomes, strict=True):
            if one.given.done():
                continue
            if isinstance(outcome, Exception | PutOff):
                one.given.set_exception(outcome)
            else:
                one.given.set_result(outcome)

    def _each(self, results: Any, count: int) -> list[Any]:
        if not isinstance(results, Sequence) or isinstance(results, str):
            raise Permanent(
                f"{self._agent} was called for {count} inputs and returned {type(results).__name__}, no list"
            )
        if len(results) != count:
            raise Permanent(
                f"{self._agent} was called for {count} inputs and returned {len(results)} results"
            )
        return list(results)


def _stop_when_unwanted(task: asyncio.Task[None], wanted: Sequence[_Waiting]) -> None:
    """A call whose steps have all been stopped is stopped, too."""

    def look(_: asyncio.Future[Any]) -> None:
        if all(one.given.cancelled() for one in wanted):
            task.cancel()

    for one in wanted:
        one.given.add_done_callback(look)
