"""Runs one attempt of an agent and makes a value of whatever comes of it."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, NamedTuple

import pydantic_core
from celery.exceptions import SoftTimeLimitExceeded
from pydantic import ValidationError

from orchestrator.engine import Claimed
from schemas.errors import AttemptTimeout, Permanent
from schemas.outcomes import Done, ErrorInfo, Failed
from workers.agent import Agent
from workers.attempts import Attempt, Attempts
from workers.context import Context
from workers.loop import LoopThread

MAX_DETAIL = 8_000
"""Characters of a traceback that are kept with a failed attempt."""


class Ended(NamedTuple):
    """The outcome of an attempt, with its output as JSON text and the progress it noted."""

    outcome: Done | Failed
    output: str | None
    notes: tuple[dict[str, Any], ...]


class Superseded(Exception):
    """The attempt was stopped because its outcome would be refused."""


class InvalidInput(Permanent):
    """The step's input does not fit the agent."""


class InvalidOutput(Permanent):
    """The agent returned something that does not fit its own declaration."""


class Runner:
    """Runs agents: async ones on the process's event loop, sync ones in a thread or, with prefork, right here."""

    def __init__(self, loop: LoopThread, threads: Executor | None, attempts: Attempts) -> None:
        self._loop = loop
        self._threads = threads
        self._attempts = attempts

    def run(self, agent: Agent, claimed: Claimed) -> Ended:
        """One attempt. Raises `Superseded` if it was stopped from outside; every other ending is a value."""
        limit = min(agent.spec.timeout, claimed.run_left if claimed.run_left is not None else float("inf"))
        ctx = _context(claimed, max(limit, 0.0))
        try:
            value = _validated(agent, claimed)
            result = self._call(agent, claimed, ctx, value, max(limit, 0.0))
            output = _serialised(agent, result)
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001  whatever an agent raises is an outcome
            return Ended(_failed(agent, claimed, ctx, error), None, tuple(ctx._notes))
        return Ended(Done(usage=ctx.usage), output, tuple(ctx._notes))

    def _call(self, agent: Agent, claimed: Claimed, ctx: Context, value: Any, limit: float) -> Any:
        if agent.spec.is_async:
            return self._await(self._loop.submit(_bounded(agent, ctx, value, limit)), claimed, None)
        if self._threads is None:
            return agent.invoke(ctx, value)
        return self._await(self._threads.submit(agent.invoke, ctx, value), claimed, limit)

    def _await(self, future: Future[Any], claimed: Claimed, limit: float | None) -> Any:
        attempt = Attempt(claimed.run.id, claimed.path, claimed.attempt)
        with self._attempts.running(attempt, future.cancel):
            try:
                return future.result(limit)
            except CancelledError:
                raise Superseded from None
            except FutureTimeout:
                if future.done():
                    raise
                # The thread cannot be stopped; its late outcome is dropped here, and refused by the fence.
                raise AttemptTimeout(f"it took longer than {limit:g} s") from None


async def _bounded(agent: Agent, ctx: Context, value: Any, limit: float) -> Any:
    try:
        async with asyncio.timeout(limit) as clock:
            return await agent.invoke(ctx, value)
    except TimeoutError:
        if clock.expired():
            raise AttemptTimeout(f"it took longer than {limit:g} s") from None
        raise


def _context(claimed: Claimed, limit: float) -> Context:
    return Context(
        run_id=claimed.run.id,
        path=claimed.path,
        attempt=claimed.attempt,
        workflow=claimed.workflow,
        tenant=claimed.tenant,
        labels=claimed.labels,
        intent=pydantic_core.from_json(claimed.intent),
        deadline=time.monotonic() + limit,
    )


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


def _failed(agent: Agent, claimed: Claimed, ctx: Context, error: Exception) -> Failed:
    if isinstance(error, SoftTimeLimitExceeded):
        error = AttemptTimeout(f"it took longer than {agent.spec.timeout:g} s")
    retryable = not isinstance(error, Permanent)
    told = isinstance(error, (AttemptTimeout, Permanent))
    info = ErrorInfo(
        type=type(error).__name__,
        message=str(error) or type(error).__name__,
        retryable=retryable,
        detail="" if told else "".join(traceback.format_exception(error))[-MAX_DETAIL:],
    )
    return Failed(error=_clean(info), retry_in=retry_in(agent, claimed.retries, retryable), usage=ctx.usage)


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
