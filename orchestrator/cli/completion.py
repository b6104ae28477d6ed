"""What the shell offers on <Tab>: short lists, or nothing when anything is in the way."""

from __future__ import annotations

from contextlib import suppress


def workflow_names(incomplete: str) -> list[str]:
    """Names of the app's workflows, else of the database's."""
    with suppress(Exception):
        from orchestrator.cli.environment import connected, loaded
        from schemas.settings import settings

        if settings().app:
            names = sorted(loaded().workflows)
        else:
            with connected() as client:
                names = sorted({workflow.name for workflow in client.workflows()})
        return [name for name in names if name.startswith(incomplete)]
    return []


def run_ids(incomplete: str) -> list[tuple[str, str]]:
    """The latest runs, each with its workflow and state."""
    with suppress(Exception):
        from orchestrator.cli.environment import connected

        with connected() as client:
            latest = client.runs(limit=20)
        return [
            (str(run.id), f"{run.workflow}, {run.state}")
            for run in latest
            if str(run.id).startswith(incomplete)
        ]
    return []


def agent_names(incomplete: str) -> list[str]:
    """Names of the app's agents."""
    with suppress(Exception):
        from orchestrator.cli.environment import loaded

        return [name for name in sorted(loaded().specs) if name.startswith(incomplete)]
    return []
