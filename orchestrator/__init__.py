"""What must happen next: definitions become plans, plans become messages, Postgres remembers everything.

The names load on first use, so that `baton --help` need not wait for models and drivers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.definitions.reactions import on
    from orchestrator.definitions.teams import debate, supervise
    from orchestrator.definitions.vocabulary import (
        approve,
        child,
        each,
        fan_out,
        loop,
        pipeline,
        route,
        rule,
        wait_for,
        workflow,
    )

__all__ = [
    "Client",
    "approve",
    "child",
    "debate",
    "each",
    "fan_out",
    "loop",
    "on",
    "pipeline",
    "route",
    "rule",
    "supervise",
    "wait_for",
    "workflow",
]

_HOMES = dict.fromkeys(__all__, "definitions.vocabulary") | {
    "Client": "client",
    "debate": "definitions.teams",
    "on": "definitions.reactions",
    "supervise": "definitions.teams",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
