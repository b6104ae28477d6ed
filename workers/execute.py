"""Runs one attempt of an agent and makes a value of whatever comes of it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, Protocol

import pydantic_core
from celery.exceptions import SoftTimeLimitExceeded
from pydantic import ValidationError

from orchestrator.engine import Claimed, Note
from orchestrator.shared_state import Author, SharedState
from schemas.errors import AgentError, AttemptTimeout, CircuitOpen, Permanent
from schemas.events import EventKind
from schemas.outcomes import Done, ErrorInfo, Failed, Limited, Waiting
from workers.agent import Agent
from workers.attempts import Attempt, Attempts
from workers.calls import Gate
from workers.circuits import AgentCircuits, is_caught
from workers.context import Context
from workers.endings import Ended, SetAside, Superseded
from workers.gates.breakers import Breakers
from workers.guards.masking import Watch
from workers.guards.policy import PLAIN
from workers.journal import Journal, Keeper
from workers.loop import LoopThread
from workers.memory.memories import Means
from workers.state import Memory
from workers.telling import Speaker, Telling, Writer
from workers.tools.calling import Tooling

log = logging.getLogger(__name__)

MAX_DETAIL = 8_000
"""Characters of a traceback that are kept with a failed attempt."""


HANDS = 4
"""Threads that keep the journals of async agents, and as many for the state they share.

What an agent does in threads of its own does not hold them up.
"""

UNHEARD = 5.0
"""Seconds that an attempt may run on after its run's deadline: nobody told it to stop."""


LONGEST_WAIT = 86_400.0
"""Seconds that a retry waits at most, whatever a service asks for."""


class InvalidInput(Permanent):
    """The step's input does not fit the agent."""


class InvalidOutput(Permanent):
    """The agent returned something that does not fit its own declaration."""


class Records(Keeper, Writer, Protocol):
    """Whoever keeps what attempts do and say: the engine."""


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
        gates: tuple[Gate, ...] = (),
        means: Means | None = None,
        breakers: Breakers | None = None,
    ) -> None:
        self._keeper = keeper
        self._tooling = tooling
        self._telling = Telling(keeper)
        self._gates = gates
        self._means = means
        self._circuits = AgentCircuits(breakers, loop) if breakers is not None else None
        self._hands = ThreadPoolExecutor(HANDS, thread_name_prefix="journal")
        self._loop = loop
        self._shared = shared
        self._sharing = ThreadPoolExecutor(HANDS, thread_name_prefix="state")
        self._threads = threads
        self._attempts = attempts
        self.stuck: set[Future[Any]] = set()
        """Sync agents that run on although their attempt is over; the process must not wait for them to end."""

    def run(self, agent: Agent, claimed: Claimed) -> Ended:
        """One attempt, on this thread. Raises `Superseded` if it was stopped from outside."""
        if agent.spec.is_async:
            return self._awaited(agent, claimed)
        ctx, limit = self._envelope(agent, claimed)
        act = partial(self._threaded, agent, claimed, ctx, limit)
        if self._circuits is None:
            ended = act()
        else:
            turned_away = partial(_turned_away, agent, claimed, ctx)
            ended = self._circuits.run(agent, claimed, act, turned_away)
        if ctx._speaker is not None and ctx._speaker.has_spoken:
            ctx._speaker.told().result()
        return ended

    def _threaded(self, agent: Agent, claimed: Claimed, ctx: Context, limit: float) -> Ended:
        try:
            result = self._call(agent, claimed, ctx, limit)
            return _done(agent, ctx, result)
        except SetAside:
            return _set_aside(ctx)
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001  whatever an agent raises is an outcome
            return _ended(ctx, _failed(agent, claimed, ctx, error))

    def _awaited(self, agent: Agent, claimed: Claimed) -> Ended:
        try:
            return self._loop.submit(self.attempt(agent, claimed)).result()
        except SoftTimeLimitExceeded as interrupted:
            # This is the main thread of a prefork child, and the agent waits on another one.
            self._attempts.stop(_name(claimed))
            ctx, _ = self._envelope(agent, claimed)
            return _ended(ctx, _failed(agent, claimed, ctx, interrupted))

    async def attempt(self, agent: Agent, claimed: Claimed) -> Ended:
        """One attempt of an async agent, on the event loop. Raises `Superseded` if it was stopped from outside."""
        ctx, limit = self._envelope(agent, claimed)
        act = partial(self._on_loop, agent, claimed, ctx, limit)
        if self._circuits is None:
            ended = await act()
        else:
            turned_away = partial(_turned_away, agent, claimed, ctx)
            ended = await self._circuits.attempt(agent, claimed, act, turned_away)
        if ctx._speaker is not None and ctx._speaker.has_spoken:
            await ctx.heard()
        return ended

    async def _on_loop(self, agent: Agent, claimed: Claimed, ctx: Context, limit: float) -> Ended:
        stop = _Stop(asyncio.get_running_loop(), asyncio.current_task())
        with self._attempts.running(_name(claimed), stop):
            try:
                async with asyncio.timeout(limit) as clock:
                    result = await _awaited(agent, ctx, _validated(agent, claimed))
                return _done(agent, ctx, result)
            except asyncio.CancelledError as error:
                if stop.called:
                    raise Superseded from None
                failure: Exception = AgentError(f"it was cancelled from inside: {error}")
            except TimeoutError as error:
                failure = _late(agent, limit) if clock.expired() else error
            except SetAside:
                return _set_aside(ctx)
            except Superseded:
                raise
            except Exception as error:  # noqa: BLE001  whatever an agent raises is an outcome
                failure = error
        return _ended(ctx, _failed(agent, claimed, ctx, failure))

    def _envelope(self, agent: Agent, claimed: Claimed) -> tuple[Context, float]:
        """The agent's context, and the seconds after which it is stopped.

        The end of the run's time is for the timers to say, and the heart to hear; an attempt whose worker does not
        hear it ends by itself a little later.
        """
        watch = Watch(agent.guard or PLAIN, inside=agent.guard is not None)
        journal = Journal(self._keeper, claimed, self._hands, watch.kept)
        author = Author(claimed.run.id, claimed.path, claimed.attempt, claimed.tenant)
        memory = Memory(self._shared, author, self._sharing, watch.shared)
        limit = agent.spec.timeout
        if claimed.run_left is None:
            return self._context(agent, claimed, journal, memory, watch, limit), limit
        left = max(claimed.run_left, 0.0)
        ctx = self._context(agent, claimed, journal, memory, watch, min(limit, left))
        return ctx, min(limit, left + UNHEARD)

    def _context(
        self, agent: Agent, claimed: Claimed, journal: Journal, memory: Memory, watch: Watch, limit: float
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
            _memory=memory,
            _journal=journal,
            _gates=self._gates,
            _tooling=self._tooling,
            _means=self._means,
            _is_async=agent.spec.is_async,
            _speaker=Speaker(self._telling, _name(claimed), watch.spoken),
            _watch=watch,
        )

    def _call(self, agent: Agent, claimed: Claimed, ctx: Context, limit: float) -> Any:
        value = _validated(agent, claimed)
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
                raise _late(agent, limit) from None

    def _abandon(self, running: Future[Any]) -> None:
        if not running.cancel():
            self.stuck.add(running)
            running.add_done_callback(self.stuck.discard)


async def _awaited(agent: Agent, ctx: Context, value: Any) -> Any:
    try:
        result = await agent.invoke(ctx, value)
    except SystemExit as error:
        raise _not_its_own(error) from error
    except asyncio.CancelledError:
        raise
    except BaseException:
        if ctx._is_set_aside:  # whatever became of it on its way, in a task group say
            raise SetAside from None
        raise
    return _unless_it_asked(ctx, result)


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
        if ctx._is_set_aside:  # whatever became of it on its way
            raise SetAside from None
        raise
    return _unless_it_asked(ctx, result)


def _unless_it_asked(ctx: Context, result: Any) -> Any:
    """An agent that goes on after its question, having caught what ended its attempt, goes on without an answer."""
    if ctx._is_set_aside:
        raise SetAside
    return result


def _done(agent: Agent, ctx: Context, result: Any) -> Ended:
    output = ctx._watch.output(agent.name, _serialised(agent, result), agent.output.validate_json)
    return _ended(ctx, Done(usage=ctx.usage), output)


def _ended(ctx: Context, outcome: Done | Failed | Limited | Waiting, output: str | None = None) -> Ended:
    """With all that the attempt has noted, and what was masked in that and elsewhere."""
    told = [Note(note.kind, ctx._watch.shown("notes", note.data)) for note in ctx._notes]
    if isinstance(outcome, Waiting | Limited):
        # It decides again when it runs again from its start.
        told = [note for note in told if note.kind is not EventKind.STEP_DECIDED]
    return Ended(outcome, output, (*told, *ctx._watch.notes), ctx._counted)


def _set_aside(ctx: Context) -> Ended:
    asking, waits = ctx._asked, ctx._put_off
    if asking is None:
        assert waits is not None  # noqa: S101  nobody else sets a step aside
        return _ended(ctx, Limited(limit=waits.limit, due_in=waits.due_in, usage=ctx.usage))
    asked = ctx._watch.shown("question", {"key": asking.key, "request": asking.request, "told": asking.told})
    return _ended(ctx, Waiting(asking=asking.model_copy(update=asked), usage=ctx.usage))


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


def _validated(agent: Agent, claimed: Claimed) -> Any:
    try:
        return agent.input.validate_json(claimed.input)
    except ValidationError as error:
        raise InvalidInput(f"the input does not fit {agent.name}: {_first_faults(error)}") from None


def _serialised(agent: Agent, result: Any) -> str:
    try:
        return agent.output.dump_json(agent.output.validate_python(result)).decode()
    except ValidationError as error:
        message = f"{agent.name} returned {type(result).__name__}: {_first_faults(error)}"
        raise InvalidOutput(message) from None
    except (pydantic_core.PydanticSerializationError, UnicodeError) as error:
        raise InvalidOutput(f"{agent.name} returned what has no JSON form: {error}") from None


def _first_faults(error: ValidationError, most: int = 3) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".lstrip(": ") for fault in faults[:most]]
    more = len(faults) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def _late(agent: Agent, limit: float) -> AttemptTimeout:
    """Names whose time was over first: the step's own, or that of its run, of which it was not told."""
    if limit < agent.spec.timeout:
        return AttemptTimeout("the run was out of time before the step had ended")
    return AttemptTimeout(f"the step took longer than {limit:g} s")


def _turned_away(agent: Agent, claimed: Claimed, ctx: Context, error: CircuitOpen) -> Ended:
    return _ended(ctx, _failed(agent, claimed, ctx, error))


def _failed(agent: Agent, claimed: Claimed, ctx: Context, error: Exception) -> Failed:
    if isinstance(error, SoftTimeLimitExceeded):
        error = _late(agent, agent.spec.timeout)
    retryable = not isinstance(error, Permanent) and not (
        isinstance(error, CircuitOpen) and is_caught(claimed.run.plan, claimed.path)
    )
    told = isinstance(error, (AttemptTimeout, CircuitOpen, Permanent))
    info = ErrorInfo(
        type=type(error).__name__,
        message=ctx._watch.text("error", str(error) or type(error).__name__),
        retryable=retryable,
        detail="" if told else ctx._watch.text("traceback", _traceback(error))[-MAX_DETAIL:],
    )
    log.warning(
        "attempt %d of step %s of run %s failed: %s%s",
        claimed.attempt,
        claimed.path,
        claimed.run.id,
        info.message,
        f"\n{info.detail}" if info.detail else "",
    )
    wait = retry_in(agent, claimed.retries, retryable)
    if wait is not None and isinstance(error, AgentError) and error.retry_after is not None:
        wait = max(wait, min(error.retry_after, LONGEST_WAIT))
    return Failed(error=_clean(info), retry_in=wait, usage=ctx.usage)


def _traceback(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


def retry_in(
    agent: Agent, retries: int, retryable: bool, draw: Callable[[], float] = random.random
) -> float | None:
    """Seconds until the next attempt, or None if there is to be none."""
    if not retryable or retries >= agent.spec.retry.max:
        return None
    return agent.spec.retry.delay(retries + 1, draw())


def _clean(info: ErrorInfo) -> ErrorInfo:
    """Without NUL characters and lone surrogates, which Postgres cannot store: a failure must be recordable."""

    def clean(text: str) -> str:
        return text.replace("\0", "�").encode("utf-8", "replace").decode()

    return info.model_copy(update={"message": clean(info.message), "detail": clean(info.detail)})
