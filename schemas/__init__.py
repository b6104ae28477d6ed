"""What things are: frozen models, the exception tree, settings. No I/O.

The names load on first use: the command line needs the exceptions at once, and Pydantic only when it works.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.agents import AgentSpec, Retry
    from schemas.breakers import Breaker
    from schemas.debates import Case, Debated, Dissent, Verdict
    from schemas.errors import (
        AgentError,
        AttemptTimeout,
        BatonError,
        BudgetExceeded,
        BudgetTooSmall,
        CircuitOpen,
        Conflict,
        DefinitionError,
        Fault,
        IdempotencyConflict,
        InputError,
        NotFound,
        Permanent,
        ResultTimeout,
        RunFailed,
        SchemaOutdated,
        SubmissionRefused,
        Unavailable,
    )
    from schemas.events import Event, EventKind
    from schemas.limits import Limit
    from schemas.outcomes import (
        Cancelled,
        Choice,
        Done,
        ErrorInfo,
        Failed,
        Gap,
        Gathered,
        Limited,
        Outcome,
        Skipped,
        Waiting,
    )
    from schemas.runs import (
        PartialOutput,
        PoolView,
        RunMoment,
        RunState,
        RunSummary,
        RunView,
        StepKind,
        StepState,
        StepView,
        WorkerView,
    )
    from schemas.supervision import (
        Assignment,
        Assignments,
        Brief,
        Finding,
        Review,
        Supervised,
        Unmet,
        WorkerInfo,
    )
    from schemas.usage import Bounds, Budget, Price, Usage
    from schemas.workflows import Each, FanOut, Leaf, Node, Pipeline, Workflow

__all__ = [
    "AgentError",
    "AgentSpec",
    "Assignment",
    "Assignments",
    "AttemptTimeout",
    "BatonError",
    "Bounds",
    "Breaker",
    "Brief",
    "Budget",
    "BudgetExceeded",
    "BudgetTooSmall",
    "Cancelled",
    "Case",
    "Choice",
    "CircuitOpen",
    "Conflict",
    "Debated",
    "DefinitionError",
    "Dissent",
    "Done",
    "Each",
    "ErrorInfo",
    "Event",
    "EventKind",
    "Failed",
    "FanOut",
    "Fault",
    "Finding",
    "Gap",
    "Gathered",
    "IdempotencyConflict",
    "InputError",
    "Leaf",
    "Limit",
    "Limited",
    "Node",
    "NotFound",
    "Outcome",
    "PartialOutput",
    "Permanent",
    "Pipeline",
    "PoolView",
    "Price",
    "ResultTimeout",
    "Retry",
    "Review",
    "RunFailed",
    "RunMoment",
    "RunState",
    "RunSummary",
    "RunView",
    "SchemaOutdated",
    "Skipped",
    "StepKind",
    "StepState",
    "StepView",
    "SubmissionRefused",
    "Supervised",
    "Unavailable",
    "Unmet",
    "Usage",
    "Verdict",
    "Waiting",
    "WorkerInfo",
    "WorkerView",
    "Workflow",
]

_ROOMS = (
    "agents",
    "breakers",
    "debates",
    "errors",
    "events",
    "limits",
    "outcomes",
    "runs",
    "supervision",
    "usage",
    "workflows",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for room in _ROOMS:
        there = vars(import_module(f"{__name__}.{room}"))
        globals().update({known: there[known] for known in __all__ if known in there})
    return globals()[name]
