"""What becomes of an attempt: an outcome, made of what its agent gave or raised, with all that was noted and masked."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Callable
from typing import Any

import pydantic_core
from celery.exceptions import SoftTimeLimitExceeded
from pydantic import ValidationError

from orchestrator.engine import Claimed, Note
from schemas.errors import AgentError, AttemptTimeout, CircuitOpen, Permanent
from schemas.events import EventKind
from schemas.outcomes import Done, ErrorInfo, Failed, Limited, Waiting
from workers.agent import Agent
from workers.circuits import is_caught
from workers.context import Context
from workers.endings import Ended

log = logging.getLogger(__name__)

MAX_DETAIL = 8_000
"""Characters of a traceback that are kept with a failed attempt."""

LONGEST_WAIT = 86_400.0
"""Seconds that a retry waits at most, whatever a service asks for."""


class InvalidInput(Permanent):
    """The step's input does not fit the agent."""


class InvalidOutput(Permanent):
    """The agent returned something that does not fit its own declaration."""


def validated(agent: Agent, claimed: Claimed) -> Any:
    """The input, as the agent takes it. Raises `InvalidInput`."""
    try:
        return agent.input.validate_json(claimed.input)
    except ValidationError as error:
        raise InvalidInput(f"the input does not fit {agent.name}: {_first_faults(error)}") from None


def done(agent: Agent, ctx: Context, result: Any) -> Ended:
    """With what the agent gave. Raises `InvalidOutput`, and `OutputRefused` if its guard does."""
    output = ctx._watch.output(agent.name, _serialised(agent, result), agent.output.validate_json)
    return _ended(agent, ctx, Done(usage=ctx.usage), output)


def set_aside(agent: Agent, ctx: Context) -> Ended:
    """With what its step waits for."""
    asking, waits = ctx._keeping.asked, ctx._keeping.put_off
    if asking is None:
        assert waits is not None  # noqa: S101  nobody else sets a step aside
        return _ended(agent, ctx, Limited(limit=waits.limit, due_in=waits.due_in, usage=ctx.usage))
    asked = ctx._watch.shown("question", {"key": asking.key, "request": asking.request, "told": asking.told})
    return _ended(agent, ctx, Waiting(asking=asking.model_copy(update=asked), usage=ctx.usage))


def failed(agent: Agent, claimed: Claimed, ctx: Context, error: Exception) -> Ended:
    """With a failure: whatever an agent raises, and what did not let it work."""
    return _ended(agent, ctx, _failure(agent, claimed, ctx, error))


def _failure(agent: Agent, claimed: Claimed, ctx: Context, error: Exception) -> Failed:
    if isinstance(error, SoftTimeLimitExceeded):
        error = late(agent, agent.spec.timeout)
    retryable = not isinstance(error, Permanent) and not (
        isinstance(error, CircuitOpen) and is_caught(claimed.run.plan, claimed.path)
    )
    told = isinstance(error, AgentError) and error.says_all
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


def late(agent: Agent, limit: float) -> AttemptTimeout:
    """Names whose time was over first: the step's own, or that of its run, of which it was not told."""
    if limit < agent.spec.timeout:
        return AttemptTimeout("the run was out of time before the step had ended")
    return AttemptTimeout(f"the step took longer than {limit:g} s")


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


def _ended(
    agent: Agent, ctx: Context, outcome: Done | Failed | Limited | Waiting, output: str | None = None
) -> Ended:
    """With all that the attempt has noted, and what was masked in that and elsewhere."""
    if agent.bounds is not None and (beyond := agent.bounds.exceeded(ctx.usage)):
        ctx.warn(f"{agent.name} has consumed {beyond}: more than budgets could set aside", agent=agent.name)
    told = [Note(note.kind, ctx._watch.shown("notes", note.data)) for note in ctx._notes]
    if isinstance(outcome, Waiting | Limited):
        # It decides again when it runs again from its start.
        told = [note for note in told if note.kind is not EventKind.STEP_DECIDED]
    return Ended(outcome, output, (*told, *ctx._watch.notes), ctx._counted, ctx._holds)


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
