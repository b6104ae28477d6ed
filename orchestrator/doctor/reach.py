"""Is what the agents of the app need from outside there: keys of models, MCP servers?"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.doctor.finding import Finding, ok, warn
from orchestrator.loading import Loaded
from schemas.errors import BatonError
from schemas.reach import Reached


def check(found: Loaded) -> Iterator[Finding]:
    """Each thing once, as it is here; workers may run elsewhere, so what is not there is a warning."""
    for one, agents in _reached(found):
        try:
            yield ok(one.kind, one.look())
        except BatonError as error:
            whose = f"agents {', '.join(agents)} need" if len(agents) > 1 else f"agent {agents[0]} needs"
            yield warn(one.kind, f"{error}; {whose} it.", error.next_step)


def _reached(found: Loaded) -> list[tuple[Reached, list[str]]]:
    whose: dict[tuple[str, str], tuple[Reached, list[str]]] = {}
    for name, agent in found.agents.items():
        reaches: tuple[Reached, ...] = getattr(agent, "reaches", ())
        for one in reaches:
            agents = whose.setdefault((one.kind, one.what), (one, []))[1]
            if name not in agents:
                agents.append(name)
    return list(whose.values())
