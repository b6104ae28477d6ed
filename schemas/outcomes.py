"""How a step ends: a value, told apart by `state` with one `match`."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from schemas.base import Frozen
from schemas.usage import Usage
from schemas.waits import Asking

T = TypeVar("T")


class ErrorInfo(Frozen):
    """A failure as data."""

    type: str
    """The exception's class name."""
    message: str
    retryable: bool = True
    detail: str = ""
    """A traceback, or what else helps to find the cause."""


class Done(Frozen):
    """The step produced its output."""

    state: Literal["done"] = "done"
    output: Any = None
    usage: Usage = Usage()
    instead: ErrorInfo | None = None
    """Why the output is not what the agent itself would have given: the run is degraded."""


class Failed(Frozen):
    """The step failed; `retry_in` seconds from now it is tried again, or never if it is None."""

    state: Literal["failed"] = "failed"
    error: ErrorInfo
    retry_in: float | None = None
    usage: Usage = Usage()


class Skipped(Frozen):
    """The step was not executed, or its outcome came too late."""

    state: Literal["skipped"] = "skipped"
    reason: str


class Cancelled(Frozen):
    """The step was stopped because its run was cancelled."""

    state: Literal["cancelled"] = "cancelled"
    reason: str = ""


class Waiting(Frozen):
    """The step waits for something outside; it holds no worker."""

    state: Literal["waiting"] = "waiting"
    asking: Asking
    usage: Usage = Usage()


class Limited(Frozen):
    """The attempt came to a call that is over a limit of the cluster; when it is its turn, another one goes on."""

    state: Literal["limited"] = "limited"
    limit: str
    due_in: float = Field(ge=0)
    """Seconds until it is its turn."""
    usage: Usage = Usage()


Outcome = Annotated[Done | Failed | Skipped | Cancelled | Waiting | Limited, Field(discriminator="state")]


class Gap(Frozen):
    """A branch that gave no result, and why."""

    branch: str
    """The branch's name in a fan-out, its index in an `each`."""
    state: Literal["failed", "late", "skipped", "cancelled", "refused"]
    reason: str


class Choice(BaseModel):
    """What the agent of a router returns: one of the ways, and how sure it is."""

    choice: str
    confidence: float = Field(default=1.0, ge=0.0, le=1.0)
    reason: str = ""
    alternatives: dict[str, float] = {}
    """Other ways, each with its confidence."""
    features: dict[str, Any] = {}
    """What the choice rests on."""


class Gathered(BaseModel, Generic[T]):
    """What a join receives: the results there are, in branch order, and the gaps.

    A join may also declare `list[T]` (only with `require="all"`), or, after a fan-out of named branches, a
    model that has one field per branch.
    """

    results: list[T]
    gaps: list[Gap] = []
