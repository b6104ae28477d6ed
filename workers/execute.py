"""Runs one attempt of an agent, however it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

import pydantic_core
from celery.exceptions import SoftTimeLimitExceeded

from orchestrator.engine import Claimed
from orchestrator.engine.reserving import Wish
from orchestrator.shared_state import Author, SharedState
from schemas.errors import AgentError, BudgetExceeded
from schemas.usage import Budget
from workers.agent import Agent
from workers.attempts import Attempt, Attempts
from workers.calls import NONE, Gate
from workers.circuits import AgentCircuits
from workers.context import Context
from workers.cuts.fitting import given
from workers.endings import Ended, SetAside, Superseded
from workers.gates.breakers import Breakers
from workers.guards.masking import Mask
from workers.guards.policy import PLAIN
from workers.hands import Hands
from workers.journal import Journal, JournalKeeper
from workers.keeping import Keeping
from workers.loop import LoopThread
from workers.memory.memories import Means
from workers.outcomes import done, failed, late, set_aside, validated
from workers.state import Sharing
from workers.telling import Speaker, Telling, Writer
from workers.tools.calling import Tooling

UNHEARD = 5.0
"""Seconds that an attempt may run on after its run's deadline: nobody told it to stop."""


class Records(JournalKeeper, Writer, Protocol):
    """Whoever keeps what attempts do and say, and may consume: the engine."""

    def declare_budget(self, agent: str, budget: Budget) -> None: ...


class Runner:
    """Runs agents: async ones on the process's event loop, sync ones in a thread or, with prefork, right here."""

    def __init__(
        self,
        loop: LoopThread,
        threads: Executor | None,
        attempts: Attempts,
        shared: SharedState,
        keeper: Records,
        tooling: Tooling,
        hands: Hands,
        gates: tuple[Gate, ...] = (),
        means: Means | None = None,
        breakers: Breakers | None = None,
        agents: Mapping[str, Agent] | None = None,
        hold: Callable[[Wish], Awaitable[None]] | None = None,
    ) -> None:
        """`agents` are those that others name; `hold` sets aside what a whole attempt may consume."""
        self._hold = hold
        self._agents = {} if agents is None else agents
        self._keeper = keeper
        self._tooling = tooling
        self._telling = Telling(keeper)
        self._gates = gates
        self._means = means
        self._circuits = AgentCircuits(breakers, loop) if breakers is not None else None
        self._hands = hands
        self._loop = loop
        self._shared = shared
        self._threads = threads
        self._attempts = attempts
        self._declared: dict[str, Budget] = {}
        self.stuck: set[Future[Any]] = set()
        """Sync agents that run on although their attempt is over; the process must not wait for them to end."""

    def run(self, agent: Agent, claimed: Claimed) -> Ended:
        """One attempt, on this thread. Raises `Superseded` if it was stopped from outside."""
        if agent.spec.is_async:
            return self._awaited(agent, claimed)
        ctx, limit = self._envelope(agent, claimed)
        if claimed.used_up:
            return failed(agent, claimed, ctx, BudgetExceeded(claimed.used_up))
        if self._owes(agent):
            self._declare(agent)
        act = partial(self._threaded, agent, claimed, ctx, limit)
        if self._circuits is None:
            ended = act()
        else:
            turned_away = partial(failed, agent, claimed, ctx)
            ended = self._circuits.run(agent, claimed, act, turned_away)
        if ctx._speaker is not None and ctx._speaker.has_spoken:
            ctx._speaker.told().result()
        return ended

    def _threaded(self, agent: Agent, claimed: Claimed, ctx: Context, limit: float) -> Ended:
        try:
            result = self._call(agent, claimed, ctx, limit)
            return done(agent, ctx, result)
        except SetAside:
            return set_aside(agent, ctx)
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001  whatever an agent raises is an outcome
            return failed(agent, claimed, ctx, error)

    def _awaited(self, agent: Agent, claimed: Claimed) -> Ended:
        try:
            return self._loop.submit(self.attempt(agent, claimed)).result()
        except SoftTimeLimitExceeded as interrupted:
            # This is the main thread of a prefork child, and the agent waits on another one.
            self._attempts.stop(_name(claimed))
            ctx, _ = self._envelope(agent, claimed)
            return failed(agent, claimed, ctx, interrupted)

    async def attempt(self, agent: Agent, claimed: Claimed) -> Ended:
        """One attempt of an async agent, on the event loop. Raises `Superseded` if it was stopped from outside."""
        ctx, limit = self._envelope(agent, claimed)
        if claimed.used_up:
            return failed(agent, claimed, ctx, BudgetExceeded(claimed.used_up))
        if self._owes(agent):
            await self._hands.budgets.call(self._declare, agent)
        act = partial(self._on_loop, agent, claimed, ctx, limit)
        if self._circuits is None:
            ended = await act()
        else:
            turned_away = partial(failed, agent, claimed, ctx)
            ended = await self._circuits.attempt(agent, claimed, act, turned_away)
        if ctx._speaker is not None and ctx._speaker.has_spoken:
            await ctx.heard()
        return ended

    async def _on_loop(self, agent: Agent, claimed: Claimed, ctx: Context, limit: float) -> Ended:
        stop = _Stop(asyncio.get_running_loop(), asyncio.current_task())
        with self._attempts.running(_name(claimed), stop):
            try:
                async with asyncio.timeout(limit) as clock:
                    result = await _awaited(agent, ctx, validated(agent, claimed))
                return done(agent, ctx, result)
            except asyncio.CancelledError as error:
                if stop.called:
                    raise Superseded from None
                failure: Exception = AgentError(f"it was cancelled from inside: {error}")
            except TimeoutError as error:
                failure = late(agent, limit) if clock.expired() else error
            except SetAside:
                return set_aside(agent, ctx)
            except Superseded:
                raise
            except Exception as error:  # noqa: BLE001  whatever an agent raises is an outcome
                failure = error
        return failed(agent, claimed, ctx, failure)

    def _owes(self, agent: Agent) -> bool:
        """Whether this process has not said yet what the agent may consume in a day."""
        return agent.budget is not None and self._declared.get(agent.name) != agent.budget

    def _declare(self, agent: Agent) -> None:
        assert agent.budget is not None  # noqa: S101  else nothing is owed
        self._keeper.declare_budget(agent.name, agent.budget)
        self._declared[agent.name] = agent.budget

    def _envelope(self, agent: Agent, claimed: Claimed) -> tuple[Context, float]:
        """The agent's context, and the seconds after which it is stopped.

        The end of the run's time is for the timers to say, and the heart to hear; an attempt whose worker does not
        hear it ends by itself a little later.
        """
        watch = Mask(agent.guard or PLAIN)
        journal = Journal(self._keeper, claimed, self._hands.journals, watch.kept)
        author = Author(claimed.run.id, claimed.path, claimed.attempt, claimed.tenant)
        sharing = Sharing(self._shared, author, self._hands.sharing, watch.shared, agent.slice)
        limit = agent.spec.timeout
        if claimed.run_left is None:
            return self._context(agent, claimed, journal, sharing, watch, limit), limit
        left = max(claimed.run_left, 0.0)
        ctx = self._context(agent, claimed, journal, sharing, watch, min(limit, left))
        return ctx, min(limit, left + UNHEARD)

    def _context(
        self, agent: Agent, claimed: Claimed, journal: Journal, sharing: Sharing, watch: Mask, limit: float
    ) -> Context:
        return Context(
            run_id=claimed.run.id,
            path=claimed.path,
            attempt=claimed.attempt,
            workflow=claimed.workflow,
            tenant=claimed.tenant,
            labels=claimed.labels,
            intent=pydantic_core.from_json(claimed.intent),
            deadline=time.monotonic() + limit,
            agent=agent.name,
            agents=self._agents,
            _hold=self._holding(agent, claimed),
            _sharing=sharing,
            _keeping=Keeping(journal, is_async=agent.spec.is_async),
            _gates=self._gates,
            _tooling=self._tooling,
            _means=self._means,
            _speaker=Speaker(self._telling, _name(claimed), watch.spoken),
            _watch=watch,
        )

    def _holding(self, agent: Agent, claimed: Claimed) -> Callable[[], Awaitable[None]] | None:
        """What sets aside, in the budgets that this attempt counts in, the most that it tells when it ends."""
        if self._hold is None or agent.bounds is None or not (claimed.metered or agent.budget is not None):
            return None
        most = agent.bounds.known
        if most == NONE:
            return None
        wish = Wish(uuid4(), claimed.run.id, claimed.path, claimed.attempt, agent.name, "", most)
        return partial(self._hold, wish)

    def _call(self, agent: Agent, claimed: Claimed, ctx: Context, limit: float) -> Any:
        value = validated(agent, claimed)
        if ctx._hold is not None or (agent.context is not None and not agent.cuts_itself):
            began = time.monotonic()
            value = self._prepared(agent, claimed, ctx, value, limit)
            limit = max(0.0, limit - (time.monotonic() - began))
        if self._threads is None:
            return _called(agent, ctx, value)
        running = self._threads.submit(_called, agent, ctx, value)
        # The thread cannot be stopped, but nobody has to wait for it: its late outcome is dropped here.
        awaited: Future[Any] = Future()
        running.add_done_callback(partial(_pass_on, awaited))
        with self._attempts.running(_name(claimed), awaited.cancel):
            try:
                return awaited.result(limit)
            except CancelledError:
                if not awaited.cancelled():
                    raise
                self._abandon(running)
                raise Superseded from None
            except FutureTimeout:
                if awaited.done():
                    raise
                self._abandon(running)
                raise late(agent, limit) from None

    def _prepared(self, agent: Agent, claimed: Claimed, ctx: Context, value: Any, limit: float) -> Any:
        """The input of a sync agent as it may be given to it, when it may begin.

        Whoever summarises for it works on the event loop, and that is where budgets are asked.
        """
        work = self._loop.submit(_given(agent, ctx, value))
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            work.cancel()

        with self._attempts.running(_name(claimed), stop):
            try:
                return work.result(limit)
            except CancelledError as error:
                if stopped.is_set():
                    raise Superseded from None
                raise AgentError(f"it was cancelled from inside: {error}") from None
            except FutureTimeout:
                if work.done():
                    raise
                raise late(agent, limit) from None
            finally:
                work.cancel()

    def _abandon(self, running: Future[Any]) -> None:
        if not running.cancel():
            self.stuck.add(running)
            running.add_done_callback(self.stuck.discard)


async def _awaited(agent: Agent, ctx: Context, value: Any) -> Any:
    try:
        if agent.context is not None and not agent.cuts_itself:
            value = await given(agent, ctx, value)
        await ctx.held()
        result = await agent.invoke(ctx, value)
    except SystemExit as error:
        raise _not_its_own(error) from error
    except asyncio.CancelledError:
        raise
    except BaseException:
        if ctx._keeping.is_set_aside:  # whatever became of it on its way, in a task group say
            raise SetAside from None
        raise
    return _unless_it_asked(ctx, result)


async def _given(agent: Agent, ctx: Context, value: Any) -> Any:
    try:
        if agent.context is not None and not agent.cuts_itself:
            value = await given(agent, ctx, value)
        await ctx.held()
    except SystemExit as error:
        raise _not_its_own(error) from error
    except Exception:
        if ctx._keeping.is_set_aside:  # whatever became of it on its way
            raise SetAside from None
        raise
    return value


def _pass_on(awaited: Future[Any], running: Future[Any]) -> None:
    """Give what a thread brought to whoever still waits for it."""
    if running.cancelled() or not awaited.set_running_or_notify_cancel():
        return
    error = running.exception()
    if error is not None:
        awaited.set_exception(error)
    else:
        awaited.set_result(running.result())


def _called(agent: Agent, ctx: Context, value: Any) -> Any:
    try:
        result = agent.invoke(ctx, value)
    except SystemExit as error:
        raise _not_its_own(error) from error
    except SoftTimeLimitExceeded:
        raise
    except BaseException:
        if ctx._keeping.is_set_aside:  # whatever became of it on its way
            raise SetAside from None
        raise
    return _unless_it_asked(ctx, result)


def _unless_it_asked(ctx: Context, result: Any) -> Any:
    """An agent that goes on after its question, having caught what ended its attempt, goes on without an answer."""
    if ctx._keeping.is_set_aside:
        raise SetAside
    return result


def _not_its_own(error: SystemExit) -> AgentError:
    """An agent that exits (`sys.exit`, a parser of arguments) must not take its neighbours with it."""
    return AgentError(f"it tried to end its process: {error!r}")


class _Stop:
    """Cancels a task from any thread, and remembers that it did."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None) -> None:
        self._loop = loop
        self._task = task
        self.called = False

    def __call__(self) -> None:
        self.called = True
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)


def _name(claimed: Claimed) -> Attempt:
    return Attempt(claimed.run.id, claimed.path, claimed.attempt)
