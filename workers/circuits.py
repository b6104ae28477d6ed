"""Attempts of agents that have a circuit breaker: while it is open, another answer takes their place, or a failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from orchestrator.breakers import CircuitPass, Evidence
from orchestrator.definitions.plan import Plan, parent_of
from orchestrator.engine import Claimed, Note
from schemas.breakers import Breaker
from schemas.errors import CircuitOpen
from schemas.events import EventKind
from schemas.outcomes import Done, ErrorInfo
from schemas.workflows import Pipeline, Stage
from workers.agent import Agent
from workers.endings import Ended
from workers.gates.breakers import Breakers, of_attempt
from workers.loop import LoopThread


class AgentCircuits:
    """Lets attempts be made while the circuit of their agent is closed, or one of them as a probe."""

    def __init__(self, breakers: Breakers, loop: LoopThread) -> None:
        self._breakers = breakers
        self._loop = loop

    def run(
        self,
        agent: Agent,
        claimed: Claimed,
        act: Callable[[], Ended],
        failed: Callable[[CircuitOpen], Ended],
    ) -> Ended:
        """Make an attempt on this thread, if it may be made; else `failed` says how that failure ends it."""
        if agent.spec.breaker is None:
            return act()
        try:
            passage = self._loop.submit(self._entered(agent, agent.spec.breaker)).result()
        except CircuitOpen as error:
            return _instead(agent, error) or failed(error)
        verdict: Evidence = "unknown"
        try:
            ended = act()
            verdict = of_attempt(ended.outcome)
        finally:
            note = self._loop.submit(self._left(passage, verdict, claimed)).result()
        return _with(ended, note)

    async def attempt(
        self,
        agent: Agent,
        claimed: Claimed,
        act: Callable[[], Awaitable[Ended]],
        failed: Callable[[CircuitOpen], Ended],
    ) -> Ended:
        """The same on the event loop."""
        if agent.spec.breaker is None:
            return await act()
        try:
            passage = await self._entered(agent, agent.spec.breaker)
        except CircuitOpen as error:
            return _instead(agent, error) or failed(error)
        verdict: Evidence = "unknown"
        try:
            ended = await act()
            verdict = of_attempt(ended.outcome)
        finally:
            note = await self._left(passage, verdict, claimed)
        return _with(ended, note)

    async def _entered(self, agent: Agent, breaker: Breaker) -> CircuitPass:
        return await self._breakers.enter(f"agent {agent.name}", breaker)

    async def _left(self, passage: CircuitPass, verdict: Evidence, claimed: Claimed) -> Note | None:
        return await self._breakers.leave(passage, verdict, claimed.run.id, claimed.path)


def is_caught(plan: Plan, path: str) -> bool:
    """Whether something else takes the place of this step when it fails: then nobody waits for a circuit."""
    while path:
        above = parent_of(path)
        match plan.at(above).node:
            case Stage(optional=optional, fallback=fallback):
                if (optional or fallback is not None) and not path.endswith("/else"):
                    return True
            case Pipeline():
                pass
            case _:
                return False
        path = above
    return False


def _instead(agent: Agent, error: CircuitOpen) -> Ended | None:
    """The answer that an agent declares for this."""
    if agent.stand_in is None:
        return None
    info = ErrorInfo(type="CircuitOpen", message=str(error))
    note = Note(EventKind.STEP_WARNING, {"message": f"its fallback has answered: {error}"})
    return Ended(Done(instead=info), agent.stand_in, (note,))


def _with(ended: Ended, note: Note | None) -> Ended:
    return ended if note is None else ended._replace(notes=(*ended.notes, note))
