"""`baton up`: the whole stack on this machine, in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.readiness import await_pools

if TYPE_CHECKING:
    from orchestrator.loading import Loaded
    from orchestrator.local.lines import Lines
    from orchestrator.local.stack import Stack
    from schemas.workflows import Workflow

EXAMPLE = "examples.dependency_review"
"""What is served when no app is named."""

MARGIN = 15.0
"""Seconds that a worker gets beyond its drain time before it is killed: to give back what it could not finish."""


def up(
    app: options.App = None,
    data_dir: options.DataDir = None,
    flower: Annotated[bool, typer.Option(help="Also start Flower, Celery's dashboard.")] = True,
) -> None:
    """Start servers, tables, one worker pool per agent and Flower; Ctrl-C drains and stops them all."""
    from orchestrator.cli import environment
    from schemas.settings import settings

    environment.apply(app=app, data_dir=data_dir)
    if not settings().app:
        typer.secho(f"No app is named (--app or BATON_APP): serving {EXAMPLE}.", fg="yellow", err=True)
        environment.apply(app=EXAMPLE)
    found = environment.loaded()
    for warning in unserved(found):
        typer.secho(f"! {warning}", fg="yellow", err=True)
    stack = stack_of(found, flower=flower)
    typer.echo(f"Starting the servers and {len(found.specs)} worker pools …")
    try:
        stack.start(prepare=upgrade)
        with environment.connected() as client:
            for workflow in found.workflows.values():
                client.register(workflow)
            await_pools(client, stack, look_at="what the workers print above")
        _greet(stack, found)
        stack.supervisor.run()
    finally:
        stack.stop()
    typer.echo("Everything has stopped.")


def unserved(found: Loaded) -> list[str]:
    """The agents of workflows that no worker of this app could run: nobody finds them by a name."""
    from schemas.tree import agents_of

    named = {agent: workflow.name for workflow in found.workflows.values() for agent in agents_of(workflow)}
    return [
        f"agent {agent!r} of workflow {workflow!r} gets no pool: assign it to a name at the top level of a module"
        for agent, workflow in named.items()
        if agent not in found.specs
    ]


def stack_of(found: Loaded, *, flower: bool, lines: Lines | None = None) -> Stack:
    """The stack that serves every agent of an app with one worker process each, not started yet."""
    from pathlib import Path

    from orchestrator.local.stack import PoolSpec, Stack
    from schemas.agents import DEFAULT_CONCURRENCY
    from schemas.settings import settings

    given = settings()
    return Stack(
        given.app,
        given.data_dir,
        pools=[
            PoolSpec(agent=spec.name, queue=spec.queue, concurrency=spec.concurrency or DEFAULT_CONCURRENCY)
            for spec in found.specs.values()
        ],
        database_url=given.database_url,
        broker_url=given.broker_url,
        flower=flower,
        cwd=Path.cwd(),
        lines=lines,
        drain=given.drain_seconds + MARGIN,
    )


def upgrade(urls: object) -> None:
    """Bring the tables of a starting stack up to date."""
    from orchestrator.store import schema

    schema.upgrade(urls.database_url)  # type: ignore[attr-defined]


def _greet(stack: Stack, found: Loaded) -> None:
    from pathlib import Path

    from schemas.settings import settings

    name = next(iter(found.workflows), "WORKFLOW")
    addresses = [("Postgres", stack.urls.database_url), ("Redis", stack.urls.broker_url)]
    if stack.flower_url:
        addresses.append(("Flower", stack.flower_url))
    for what, url in addresses:
        typer.echo(f"  {what:<10}{without_password(url)}")
    typer.secho("In another terminal:", bold=True)
    if settings().data_dir != Path(".baton"):
        typer.echo(f"  export BATON_DATA_DIR={stack.data_dir}")
    takes_something = name in found.workflows and required(found.workflows[name])
    typer.echo(f"  baton run {name}{' INPUT' if takes_something else ''} --watch")
    typer.echo("  baton pools ls")
    typer.echo("Ctrl-C here drains the workers and stops everything; what was accepted stays in Postgres.")


def required(workflow: Workflow) -> bool:
    """Whether a run of this workflow needs an input."""
    from orchestrator.definitions.compile import compile_workflow

    schema = compile_workflow(workflow).input_schema
    return schema.get("type") != "object" or bool(schema.get("required"))


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = parts.username or ""
    return parts._replace(netloc=f"{user}:***@{parts.netloc.rpartition('@')[2]}").geturl()
