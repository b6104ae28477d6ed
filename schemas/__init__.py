"""What things are: frozen models, the exception tree, settings. No I/O.

The names load on first use: the command line needs the exceptions at once, and Pydantic only when it works.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.agents import AgentSpec, Retry
    from schemas.errors import (
        AgentError,
        AttemptTimeout,
        BatonError,
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
    from schemas.outcomes import (
        Cancelled,
        Choice,
        Done,
        ErrorInfo,
        Failed,
        Gap,
        Gathered,
        Outcome,
        Skipped,
        Waiting,
    )
    from schemas.runs import (
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
    from schemas.usage import Budget, Usage
    from schemas.workflows import Each, FanOut, Leaf, Node, Pipeline, Workflow

__all__ = [
    "AgentError",
    "AgentSpec",
    "AttemptTimeout",
    "BatonError",
    "Budget",
    "Cancelled",
    "Choice",
    "Conflict",
    "DefinitionError",
    "Done",
    "Each",
    "ErrorInfo",
    "Event",
    "EventKind",
    "Failed",
    "FanOut",
    "Fault",
    "Gap",
    "Gathered",
    "IdempotencyConflict",
    "InputError",
    "Leaf",
    "Node",
    "NotFound",
    "Outcome",
    "Permanent",
    "Pipeline",
    "PoolView",
    "ResultTimeout",
    "Retry",
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
    "Unavailable",
    "Usage",
    "Waiting",
    "WorkerView",
    "Workflow",
]

_ROOMS = ("agents", "errors", "events", "outcomes", "runs", "usage", "workflows")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for room in _ROOMS:
        there = vars(import_module(f"{__name__}.{room}"))
        globals().update({known: there[known] for known in __all__ if known in there})
    return globals()[name]
