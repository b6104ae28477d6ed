"""The tools of an app, with the agents that may call them."""

from __future__ import annotations

from collections import defaultdict

from orchestrator.loading import Loaded
from schemas.base import Frozen
from schemas.tools import MayCall, ToolSpec


class Listed(Frozen):
    """One tool, or a toolset, of which the tools are known later."""

    name: str
    spec: ToolSpec | None
    agents: tuple[str, ...]
    """Those that may call it."""
    asks: tuple[str, ...]
    """Those of them that ask a person first, whatever its risk."""


def listed(app: Loaded) -> list[Listed]:
    """Each tool once; tools of the same name that differ are told apart."""
    specs: defaultdict[str, list[ToolSpec | None]] = defaultdict(list)
    for tools in app.tools.values():
        for tool in tools:
            _add(specs[tool.spec.name], tool.spec)
    entries: list[tuple[str, MayCall]] = []
    for agent, found in app.agents.items():
        may_call: tuple[MayCall, ...] = getattr(found, "may_call", ())
        entries += [(agent, one) for one in may_call]
    for _, one in entries:
        if not one.is_named:
            _add(specs[one.name], one.spec)
    return [
        Listed(
            name=name,
            spec=spec,
            agents=tuple(agent for agent, one in entries if _is(one, name, spec)),
            asks=tuple(agent for agent, one in entries if one.asks and _is(one, name, spec)),
        )
        for name, known in specs.items()
        for spec in known
    ]


def _add(known: list[ToolSpec | None], spec: ToolSpec | None) -> None:
    if spec not in known:
        known.append(spec)


def _is(entry: MayCall, name: str, spec: ToolSpec | None) -> bool:
    return entry.name == name and (entry.is_named or entry.spec == spec)
