"""Agents of other frameworks as agents of Baton, each in one line:

    from workers.adapters import langgraph

    reviewer = langgraph("reviewer", graph, input=Ticket, output=Answer)

A framework is imported when its adapter is, and no sooner.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from schemas.errors import BatonError

if TYPE_CHECKING:
    from workers.adapters.autogen_agent import autogen
    from workers.adapters.crewai_agent import crewai
    from workers.adapters.langgraph_agent import langgraph
    from workers.adapters.openai_agents_agent import openai_agents
    from workers.adapters.pydantic_ai_agent import pydantic_ai

__all__ = ["autogen", "crewai", "langgraph", "openai_agents", "pydantic_ai"]

_EXTRAS = {
    "autogen": "autogen",
    "crewai": "crewai",
    "langgraph": "langgraph",
    "openai_agents": "openai-agents",
    "pydantic_ai": "pydantic-ai",
}
"""The extra of the package that each adapter needs; it stands in a module of the name `ADAPTER_agent`."""


def __getattr__(name: str) -> Any:
    """Raises `BatonError` for an adapter whose framework is not installed."""
    if name not in _EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(importlib.import_module(f"{__name__}.{name}_agent"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("workers", "orchestrator", "schemas"):
            raise
        raise BatonError(
            f"{package} is not installed, which the adapter {name} needs.",
            next_step=f"pip install 'baton-agents[{_EXTRAS[name]}]'",
        ) from error
    globals()[name] = found
    return found
