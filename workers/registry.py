"""Which agents a worker can run: those in the modules that it was told to load."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

from schemas.errors import DefinitionError, Fault, NotFound
from workers.agent import Agent


def load_agents(app: str) -> dict[str, Agent]:
    """The agents in the namespaces of some modules (separated by commas) and of their loaded submodules.

    Raises `NotFound` when there is none, `DefinitionError` when two have the same name, and `ImportError`.
    """
    agents: dict[str, Agent] = {}
    for name in filter(None, (part.strip() for part in app.split(","))):
        for agent in _agents_in(importlib.import_module(name)):
            if agents.setdefault(agent.name, agent) is not agent:
                raise DefinitionError(app, [Fault(f"agent {agent.name}", "two agents have this name")])
    if app and not agents:
        raise NotFound(f"there is no agent in {app}", next_step="decorate a function with @agent")
    return agents


def _agents_in(module: ModuleType) -> Iterator[Agent]:
    inside = [m for name, m in list(sys.modules.items()) if name.startswith(f"{module.__name__}.")]
    for one in (module, *inside):
        yield from (value for value in vars(one).values() if isinstance(value, Agent))
