"""Can the app be imported, and does every agent of it have a worker?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.doctor import memory, reach
from orchestrator.doctor.finding import Finding, fail, ok, warn
from orchestrator.loading import Loaded, load
from schemas.agents import queue_of
from schemas.errors import BatonError
from schemas.runs import PoolView
from schemas.settings import settings
from schemas.tree import agents_of


def check(app: str, database_url: str | None, broker_url: str | None) -> list[Finding]:
    """All checks of the app, and of the workers if both servers can be asked."""
    if not app:
        fix = "set BATON_APP to the module that holds your agents, e.g. BATON_APP=examples.text_digest"
        return [warn("app", "BATON_APP is not set, so agents and workflows are not checked.", fix)]
    try:
        found = load(app)
    except BatonError as error:
        return [fail("app", " ".join(str(error).split()), error.next_step)]
    workflows, agents = _counted(len(found.workflows), "workflow"), _counted(len(found.specs), "agent")
    summary = f"{app} holds {workflows} and {agents}."
    return [
        ok("app", summary),
        *unheld(found),
        *reach.check(found),
        *_memory(found, database_url),
        *_workers(found, database_url, broker_url),
    ]


def unheld(found: Loaded) -> Iterator[Finding]:
    """Agents that a workflow calls but that no worker of this app could serve."""
    for workflow in found.workflows.values():
        missing = sorted(set(agents_of(workflow)) - set(found.specs))
        if missing:
            yield warn(
                "app",
                f"{workflow.name} calls {', '.join(missing)}, which the app does not hold at its top level.",
                "import these agents into the module that BATON_APP names",
            )


def unserved(agents: Iterable[str], pools: Iterable[PoolView]) -> Iterator[Finding]:
    """Agents whose queue nobody serves."""
    alive = {pool.agent for pool in pools if pool.workers}
    waiting = {pool.agent: pool.ready for pool in pools}
    missing = [agent for agent in sorted(agents) if agent not in alive]
    for agent in missing:
        number = waiting.get(agent, 0)
        steps = f", and {_counted(number, 'step')} wait{'s' if number == 1 else ''} for one" if number else ""
        yield warn("workers", f"No worker serves {queue_of(agent)}{steps}.", f"baton worker {agent}")
    if not missing:
        yield ok("workers", "Every agent has a live worker.")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _memory(found: Loaded, database_url: str | None) -> list[Finding]:
    return memory.check(found.memory, database_url, wanted=settings().vectors) if database_url else []


def _workers(found: Loaded, database_url: str | None, broker_url: str | None) -> Iterator[Finding]:
    from psycopg import Error

    from orchestrator.client import Client

    if not (database_url and broker_url):
        return
    try:
        with Client(database_url, broker_url) as client:
            pools = client.pools()
    except (BatonError, Error):
        return  # the checks of the servers have said why
    yield from unserved(found.specs, pools)
