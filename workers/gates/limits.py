"""Limits of the cluster on calls of tools and models.

A call that would wait for up to `PATIENCE` waits right here, on the event loop, and holds nobody up. One that would
wait for longer ends its attempt (`PutOff`): its step waits in Postgres and holds no worker.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol

from orchestrator.engine import Ready
from orchestrator.engine.call_limits import Admission, CallBefore
from orchestrator.engine.gates import bars
from schemas.limits import Limit
from workers.calls import Call
from workers.endings import PutOff, Superseded
from workers.gates.together import Together
from workers.hands import Line

PATIENCE = 1.0
"""Seconds for which a call waits in its worker."""

LOOK = 0.1
"""Seconds between two looks for a place that another process may have given back."""

STALE = 2.0
"""Seconds after which permission counts no more: its process was stopped, and its attempt may be another's by now."""


class LimitKeeper(Protocol):
    """Whoever keeps to the limits: the engine."""

    def admit_calls(self, calls: Sequence[CallBefore]) -> tuple[list[Admission], list[Ready]]: ...
    def give_back(self, calls: Sequence[CallBefore]) -> list[Ready]: ...


class LimitGate:
    """Lets calls pass as the limits of their tools and models allow, all workers together."""

    def __init__(
        self,
        keeper: LimitKeeper,
        send: Callable[[Sequence[Ready]], object],
        hands: Line,
        of_models: Mapping[str, Sequence[Limit]] | None = None,
    ) -> None:
        """`send` sends steps whose turn it is to their workers; `of_models` are the limits of models by their names,
        whichever agent has declared them.
        """
        self._of_models = of_models or {}
        self._keeper = keeper
        self._send = send
        self._asking = Together(partial(hands.call, self._admitted))
        self._leaving = Together(partial(hands.call, self._given_back))
        self._waiting: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        """Calls of this process that wait for a place, by limit."""

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Raises `PutOff`, or `Superseded` when the attempt is no longer the one that runs."""
        limits = self._limits(call)
        if not limits:
            yield
            return
        before = _before(call, limits)
        await self._pass(before)
        try:
            yield
        finally:
            await self._end(before)

    def _limits(self, call: Call) -> Sequence[Limit]:
        """Those that its agent declares; of a model those of other agents, too."""
        others = self._of_models.get(call.name) if call.kind == "model" else None
        return call.limits if others is None else merged((*others, *call.limits))

    async def _pass(self, call: CallBefore) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE
        while True:
            asked = clock()
            verdict = await self._verdict(call)
            if verdict.stopped:
                raise Superseded
            if verdict.passes:
                if clock() - asked < STALE:
                    return
                await self._end(call)
                continue
            pause = verdict.due_in if verdict.certain else LOOK
            if clock() + pause > until:
                raise PutOff(verdict.limit, verdict.due_in)
            await self._pause(verdict.limit, pause)

    async def _verdict(self, call: CallBefore) -> Admission:
        answer = self._asking.put(call)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            # The question is under way: what it brings is given back.
            answer.add_done_callback(partial(self._unwanted, call))
            raise

    def _unwanted(self, call: CallBefore, answer: asyncio.Future[Admission]) -> None:
        if not answer.cancelled() and answer.exception() is None and answer.result().passes:
            self._leaving.put(call)

    async def _pause(self, limit: str, seconds: float) -> None:
        """Wait so long, or until a call of this process gives back a place."""
        line = self._waiting[limit]
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(turn, seconds)
        finally:
            with suppress(ValueError):
                line.remove(turn)
            if not line:
                self._waiting.pop(limit, None)

    async def _end(self, call: CallBefore) -> None:
        if all(bar.interval is not None for bar in call.bars):
            return
        await asyncio.shield(self._leaving.put(call))
        for bar in call.bars:
            self._next(bar.key)

    def _next(self, limit: str) -> None:
        line = self._waiting.get(limit)
        while line:
            turn = line.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    # --- on threads ---------------------------------------------------------------------------------------

    def _admitted(self, calls: Sequence[CallBefore]) -> list[Admission]:
        verdicts, woken = self._keeper.admit_calls(calls)
        if woken:
            self._send(woken)
        return verdicts

    def _given_back(self, calls: Sequence[CallBefore]) -> list[None]:
        if woken := self._keeper.give_back(calls):
            self._send(woken)
        return [None for _ in calls]


def of_models(declared: Iterable[Mapping[str, Sequence[Limit]]]) -> dict[str, tuple[Limit, ...]]:
    """The limits of each model, of all agents that name it: what one of them declares, the others keep to."""
    found: defaultdict[str, list[Limit]] = defaultdict(list)
    for limits in declared:
        for name, some in limits.items():
            found[name] += some
    return {name: merged(limits) for name, limits in found.items() if limits}


def merged(limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """Each thing limited once: of several concurrencies, or bursts of one rate, the smallest."""
    concurrencies: dict[tuple[Any, ...], int] = {}
    bursts: dict[tuple[Any, ...], int] = {}
    for one in limits:
        of = (one.name, one.per, one.key)
        if one.concurrency is not None:
            concurrencies[of] = min(one.concurrency, concurrencies.get(of, one.concurrency))
        if one.rate is not None:
            bursts[*of, one.rate] = min(one.burst, bursts.get((*of, one.rate), one.burst))
    return (
        *(
            Limit(name=name, per=per, key=key, concurrency=most)
            for (name, per, key), most in concurrencies.items()
        ),
        *(
            Limit(name=name, per=per, key=key, rate=rate, burst=burst)
            for (name, per, key, rate), burst in bursts.items()
        ),
    )


def _before(call: Call, limits: Sequence[Limit]) -> CallBefore:
    keyed = any(limit.key is not None for limit in limits)
    value = json.dumps(call.arguments, default=str) if keyed else None
    found = tuple(bars(f"{call.kind} {call.name}", limits, call.tenant, value, "calls"))
    return CallBefore(call.run_id, call.path, call.attempt, call.place, found)
