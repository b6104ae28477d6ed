"""The calls that an attempt makes of models and tools, and the gates of the cluster that each of them passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from schemas.limits import Limit
from schemas.usage import Usage

NONE = Usage()


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
    limits: tuple[Limit, ...] = ()
    """Of the tool or the model."""
    usage: Usage | None = None
    """What it has consumed, once it has ended well."""


class Made(NamedTuple):
    """What came of a call."""

    value: Any
    """As JSON data."""
    usage: Usage = NONE


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
        call.usage = made.usage
    return made
