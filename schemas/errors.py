"""Everything that Baton raises on purpose.

    BatonError
    ├── DefinitionError        an agent or a workflow that cannot work; names every fault at once
    ├── InputError             an input that does not fit the workflow's schema
    ├── BudgetTooSmall         a strict submission whose worst case exceeds its budget or its timeout
    ├── SubmissionRefused      the result of a task `baton.submit` that made no run
    ├── NotFound               a run, workflow, agent or pool that does not exist
    ├── Conflict               a move that the state of a run does not allow
    │   └── IdempotencyConflict    one idempotency key, two different inputs
    ├── RunFailed              `RunHandle.result()` of a run that failed or was cancelled
    ├── ResultTimeout          `RunHandle.result(timeout=...)` ran out of time; the run goes on
    ├── Unavailable            Postgres or the broker cannot be reached
    ├── SchemaOutdated         the database has not the tables this version needs
    └── AgentError             raise it in an agent to say how its failure is to be treated
        ├── Permanent              do not retry
        │   ├── Unanswered             nobody has answered what the agent had asked
        │   ├── OutputRefused          the output holds what the agent's guard refuses
        │   ├── Undeclared             the agent wants a part of the shared state that it has not declared
        │   ├── BudgetExceeded         a budget has not enough left for a call or a step: it was not made
        │   └── JournalMismatch        an attempt did other things, or in another order, than those before it
        ├── ToolError              raise it in a tool: its model hears of it, and may do better
        │   ├── ToolTimeout            it took longer than it may
        │   └── CallAbandoned          `ToolCall.check()` in a tool for whose result nobody waits any longer
        ├── CircuitOpen            an agent, a tool or a model that kept failing is left alone for a while
        ├── CallTimeout            a call of a model or a tool took longer than its own timeout
        └── AttemptTimeout         the attempt ran longer than the agent's timeout

A class's docstring is its default message. `next_step` is the command or act that helps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.runs import PartialOutput


class BatonError(Exception):
    """Something went wrong in Baton."""

    def __init__(self, message: str | None = None, *, next_step: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.next_step = next_step


class Fault(tuple[str, str]):
    """One fault of a definition or an input: where it is, and what is wrong there."""

    __slots__ = ()

    def __new__(cls, path: str, message: str) -> Fault:
        return super().__new__(cls, (path, message))

    @property
    def path(self) -> str:
        return self[0]

    @property
    def message(self) -> str:
        return self[1]

    def __str__(self) -> str:
        return f"{self[0]}: {self[1]}" if self[0] else self[1]


class DefinitionError(BatonError):
    """The definition has faults."""

    def __init__(self, what: str, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"{what} cannot work:{lines}", next_step="mend what is named above")


class InputError(BatonError):
    """The input does not fit."""

    def __init__(
        self, what: str, faults: Sequence[Fault], *, next_step: str = "mend what is named above"
    ) -> None:
        self.faults = tuple(faults)
        super().__init__(f"{what}: " + "; ".join(str(fault) for fault in self.faults), next_step=next_step)


class BudgetTooSmall(BatonError):
    """The run could exceed its budget or its timeout."""


class SubmissionRefused(BatonError):
    """The submission cannot become a run."""


class NotFound(BatonError):
    """There is no such thing."""


class Conflict(BatonError):
    """The state of the run does not allow this."""


class IdempotencyConflict(Conflict):
    """This idempotency key was used before with a different input."""


class RunFailed(BatonError):
    """The run ended without a result. `partial` is what its last finished stages produced."""

    def __init__(
        self, message: str, *, run_id: str, state: str, partial: Sequence[PartialOutput] = ()
    ) -> None:
        super().__init__(message, next_step=f"baton runs show {run_id}")
        self.run_id = run_id
        self.state = state
        self.partial = tuple(partial)


class ResultTimeout(BatonError):
    """The run has not ended yet; it goes on."""


class Unavailable(BatonError):
    """A server cannot be reached."""


class SchemaOutdated(BatonError):
    """The database does not have the tables that this version of Baton needs."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, next_step="baton db upgrade")


class AgentError(BatonError):
    """The agent could not do its work."""

    says_all = False
    """Whether its message tells all: no traceback is kept with it."""

    def __init__(
        self, message: str | None = None, *, next_step: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.retry_after = retry_after
        """Seconds before which another attempt is of no use, if that is known: the step waits as long."""


class Permanent(AgentError):
    """The agent could not do its work, and trying again would not help."""

    says_all = True


class Unanswered(Permanent):
    """Nobody has answered in time."""


class OutputRefused(Permanent):
    """The agent's guard refuses what it gave."""


class Undeclared(Permanent):
    """The agent has not declared this part of the shared state."""


class BudgetExceeded(Permanent):
    """A budget has not enough left."""


class JournalMismatch(Permanent):
    """The attempt did not do what those before it had done."""


class ToolError(AgentError):
    """The tool could not do what the model wants."""


class CircuitOpen(AgentError):
    """It has kept failing and is left alone for a while."""

    says_all = True


class CallTimeout(AgentError):
    """A call took longer than it may."""


class ToolTimeout(ToolError, CallTimeout):
    """The tool took longer than it may."""


class CallAbandoned(ToolError):
    """Nobody waits for this call any longer."""


class AttemptTimeout(AgentError):
    """The attempt ran longer than the agent's timeout."""

    says_all = True


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, what that was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
