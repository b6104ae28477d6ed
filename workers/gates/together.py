"""Many coroutines that ask one thing ask together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST = 256
"""Items of one question."""


class Together(Generic[T, R]):
    """One question for all that has gathered since the last one was asked; to be used on one event loop at a time."""

    def __init__(self, ask: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._task: asyncio.Task[None] | None = None

    def put(self, item: T) -> asyncio.Future[R]:
        """The answer for `item`, which will be asked for even if nobody waits for it; or what the question raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._work())
        return future

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                answers = list(zip(batch, await self._ask([item for item, _ in batch]), strict=True))
            except Exception as error:  # noqa: BLE001  each of them has to see it
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), answer in answers:
                    if not future.done():
                        future.set_result(answer)
        self._task = None
