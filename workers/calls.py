"""The calls that an attempt makes of models and tools, and the gates of the cluster that each of them passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from orchestrator.engine import Note
from schemas.breakers import Breaker
from schemas.limits import Limit
from schemas.usage import Budget, Usage

NONE = Usage()

PASSING = {408, 409, 425, 429}
"""Answers of a provider that may be others next time, as may all from 500."""

MOST_OUTPUT = 4_096
"""Tokens of an answer that budgets set aside where nobody says how long it can be."""


_UNREACHED = {"ConnectError", "ConnectTimeout"}


@dataclass
class Call:
    """One call that is about to be made."""

    kind: Literal["model", "tool"]
    name: str
    """`openai:gpt-5-mini`, or the name of the tool."""
    agent: str
    workflow: str
    tenant: str
    run_id: UUID
    path: str
    attempt: int
    place: int
    """Where it will stand in the journal of its step."""
    idempotency_key: str
    """The same in every attempt that makes this call."""
    arguments: Any = None
    """Those of a tool, as JSON data."""
    worst: Usage = NONE
    """The most that it consumes, as far as that is known before it is made."""
    least: Usage = NONE
    """What it has consumed when it was made, however it ends."""
    unseen: Usage = NONE
    """That, if nobody sees its end; nothing before it is on its way, or when it was refused."""
    limits: tuple[Limit, ...] = ()
    """Of the tool or the model."""
    breaker: Breaker | None = None
    """Of the tool or the model."""
    deadline: float | None = None
    """`time.monotonic()` at which its attempt is stopped."""
    notes: list[Note] = field(default_factory=list)
    """What gates tell of it, as events of its run."""
    usage: Usage | None = None
    """What it has consumed, once it has ended well."""
    output_tokens: int = 0
    """Those of its tokens that the model has made."""
    budget: Budget | None = None
    """What its agent may consume in a day (UTC), as its code says."""
    counted: bool = False
    """Whether a gate has counted its usage."""
    held: bool = False
    """Whether it is in what is set aside for its attempt as a whole."""


class Made(NamedTuple):
    """What came of a call."""

    value: Any
    """As JSON data."""
    usage: Usage = NONE
    output_tokens: int = 0
    """Those of its tokens that the model has made."""
    counted: bool = False
    """Whether budgets have counted its usage: the end of its attempt must not count it again."""


def unpaid(error: BaseException | None) -> bool:
    """Whether this failure of a call of a model says that its provider made nothing: it refused, or was not reached.

    The errors of all clients here have the status of an answer as `status_code`, or as their cause an error of httpx or
    of one of its kin, which name theirs alike.
    """
    while error is not None:
        status = getattr(error, "status_code", None)
        if type(error).__name__ in _UNREACHED or (isinstance(status, int) and status >= 400):
            return True
        error = error.__cause__ or error.__context__
    return False


class Gate(Protocol):
    """What calls pass before they are made, and are told of after.

    Entering may wait a little, or raise, `PutOff` if it would have to wait for long; leaving sees the exception with
    which the call ended, or its `usage`. A call that is in the journal is not made, and passes no gate. Runs on the
    event loop, beside many others.
    """

    def around(self, call: Call) -> AbstractAsyncContextManager[None]: ...


async def through(gates: Sequence[Gate], call: Call, act: Callable[[], Awaitable[Made]]) -> Made:
    """Make the call when all gates, the first one outermost, have let it pass."""
    async with AsyncExitStack() as passed:
        for gate in gates:
            await passed.enter_async_context(gate.around(call))
        made = await act()
        call.usage, call.output_tokens = made.usage, made.output_tokens
    return made._replace(counted=call.counted)
