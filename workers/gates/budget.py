"""The gate of budgets: the most that a call of a model can cost is set aside before it, what it cost is counted after.

What does not fit beside calls in flight waits for some of them to end: up to `PATIENCE` right here, on the event loop,
then in Postgres (`PutOff`). What cannot fit is not called: `BudgetExceeded`, for good. A call whose end nobody saw,
because it was too slow, was cut off, or its step was stopped, costs what its provider makes of it: what it was told is
counted, and one call, so that what keeps failing so comes to an end. That is set aside with it, too: if its worker
dies, whoever takes the attempt back counts it.

Attempts that tell what they consume when they end pass it once, before their function begins, with the most that their
agent declares. One that does not fit beside others waits in Postgres at once, and holds no worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol
from uuid import UUID, uuid4

from orchestrator.engine import Ready
from orchestrator.engine.reserving import Answer, Busy, Exceeded, Granted, Over, Wish
from orchestrator.engine.settling import Paid
from schemas.errors import BudgetExceeded
from schemas.usage import Budget, Usage
from workers.calls import NONE, Call
from workers.endings import PutOff, Superseded
from workers.gates.together import Together
from workers.hands import Line

PATIENCE = 2.0
"""Seconds for which a call waits in its worker."""

LOOK = (0.05, 0.5)
"""Seconds between two looks while it does: at first, and at most."""

LATER = 5.0
"""Seconds after which its step asks again that waits in Postgres, if no call that ended has woken it."""

TOGETHER = 250
"""Steps that may wait so for one budget. Of more, each waits longer, so that all together ask as often as these."""

STALE = 2.0
"""Seconds after which leave counts no more: its process was stopped, and what was set aside may be free by now."""

_ONE = Usage(model_calls=1)


class Bookkeeper(Protocol):
    """Whoever keeps the books: the engine."""

    def reserve(self, wishes: Sequence[Wish]) -> list[Answer]: ...
    def release_calls(self, calls: Sequence[UUID]) -> list[Ready]: ...
    def settle_calls(self, paid: Sequence[Paid]) -> list[Ready]: ...
    def declare_budget(self, agent: str, budget: Budget) -> None: ...


class BudgetGate:
    """Lets calls of models pass as far as budgets allow for them."""

    def __init__(
        self,
        keeper: Bookkeeper,
        send: Callable[[Sequence[Ready]], object],
        hands: Line,
        *,
        patience: float = PATIENCE,
    ) -> None:
        """`send` sends steps to their workers whose turn it is to ask again."""
        self._keeper = keeper
        self._send = send
        self._patience = patience
        self._hands = hands
        self._asking = Together(partial(hands.call, keeper.reserve))
        self._leaving = Together(partial(hands.call, self._released))
        self._paying = Together(partial(hands.call, self._settled))
        self._declared: dict[str, Budget] = {}

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Raises `BudgetExceeded`, `PutOff`, and `Superseded` when the attempt is no longer the one that runs."""
        if call.kind != "model":
            yield
            return
        name = uuid4()
        await self._declare(call)
        if not call.held:
            await self._pass(_wish(name, call), self._patience)
        try:
            yield
        except BaseException:
            used = call.usage or call.unseen
            if used != NONE:
                await self._pay(name, call, used)
            elif not call.held:
                await asyncio.shield(self._leaving.put(name))
            raise
        await self._pay(name, call, call.usage or _ONE)

    async def _pay(self, name: UUID, call: Call, used: Usage) -> None:
        at = (name, call.run_id, call.path, call.attempt, call.agent, call.name)
        paying = self._paying.put(Paid(*at, used, call.output_tokens))
        call.counted = True
        await asyncio.shield(paying)

    async def _declare(self, call: Call) -> None:
        """Once for each agent of this process."""
        if call.budget is not None and self._declared.get(call.agent) != call.budget:
            await self._hands.call(self._keeper.declare_budget, call.agent, call.budget)
            self._declared[call.agent] = call.budget

    async def hold(self, wish: Wish) -> None:
        """Set aside what an attempt as a whole may consume; it is free again in the transaction that ends it.

        Raises as `around` does.
        """
        await self._pass(wish, 0.0)

    async def _pass(self, wish: Wish, patience: float) -> None:
        clock = asyncio.get_running_loop().time
        until, pause = clock() + patience, LOOK[0]
        while True:
            asked = clock()
            match await self._answer(wish):
                case Granted():
                    if clock() - asked < STALE:
                        return
                    await asyncio.shield(self._leaving.put(wish.id))
                case Over():
                    raise Superseded
                case Exceeded(reason):
                    raise BudgetExceeded(reason)
                case Busy(budget, waiting):
                    if clock() + pause > until:
                        raise PutOff(budget, LATER * max(1.0, waiting / TOGETHER))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LOOK[1])

    async def _answer(self, wish: Wish) -> Answer:
        answer = self._asking.put(wish)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            # The question is under way: what it brings is given back.
            answer.add_done_callback(partial(self._unwanted, wish.id))
            raise

    def _unwanted(self, call: UUID, answer: asyncio.Future[Answer]) -> None:
        if not answer.cancelled() and answer.exception() is None and answer.result() == Granted():
            self._leaving.put(call)

    # --- on threads ---------------------------------------------------------------------------------------

    def _released(self, calls: Sequence[UUID]) -> list[None]:
        if woken := self._keeper.release_calls(calls):
            self._send(woken)
        return [None for _ in calls]

    def _settled(self, paid: Sequence[Paid]) -> list[None]:
        if woken := self._keeper.settle_calls(paid):
            self._send(woken)
        return [None for _ in paid]


def _wish(name: UUID, call: Call) -> Wish:
    worst = _ONE if call.worst == NONE else call.worst
    return Wish(name, call.run_id, call.path, call.attempt, call.agent, call.name, worst, call.least)
