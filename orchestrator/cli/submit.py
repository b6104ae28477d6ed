"""`baton run`: start a run, and stay with it if asked to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import console, print_json
from orchestrator.cli.rendering import show_output

SHOWN = 3
"""Steps that are named of those whose outputs a run came to."""

if TYPE_CHECKING:
    from uuid import UUID

    from orchestrator.client import Client
    from schemas.runs import RunView


def run(
    workflow: options.WorkflowName,
    given: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT|@FILE|-]", help="JSON or a text, a file of it, or stdin; none is `{}`."
        ),
    ] = None,
    app: options.App = None,
    watch: options.Watch = False,
    json: options.Json = False,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    tenant: Annotated[str | None, typer.Option(help="On whose behalf.")] = None,
    priority: Annotated[
        int | None, typer.Option(min=0, max=9, help="0 is normal, 9 the most urgent.")
    ] = None,
    delay: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start it later: 90, 30s, 5m, 2h.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="MOMENT", help="Start it then: 2027-01-31T09:00, local unless it says."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Idempotency key: the same key never starts a second run."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse it if it could exceed its budget or its timeout.")
    ] = False,
) -> None:
    """Start a run of a workflow. With --watch the exit code is 1 unless the run completed."""
    from orchestrator.cli import environment
    from orchestrator.cli.inputs import labels, parse, read
    from orchestrator.definitions.compile import compile_workflow

    environment.apply(app=app)
    labelled = labels(label or [])
    wait = _delay(delay, at)
    definition = environment.find_workflow(workflow)
    value = parse(read(given), compile_workflow(definition).input_schema)
    with environment.connected() as client:
        handle = client.submit(
            definition,
            value,
            idempotency_key=key,
            tenant=tenant,
            priority=priority,
            labels=labelled,
            delay=wait,
            strict=strict,
        )
        if watch:
            stay(client, handle.id, json=json)
        elif json:
            print_json({"id": handle.id, "workflow": definition.name})
        else:
            typer.echo(handle.id)
            for note in client.run(handle.id).notes:
                typer.secho(note, fg="yellow", err=True)
            typer.secho(f"next:  baton runs watch {handle.id}", fg="cyan", err=True)


def _delay(delay: str | None, at: str | None) -> float | None:
    from orchestrator.cli.inputs import seconds, seconds_until
    from schemas.errors import Fault, InputError

    if delay is not None and at is not None:
        raise InputError("--at", [Fault("", "it cannot stand beside --delay")])
    return seconds(delay, "--delay") if delay is not None else seconds_until(at) if at is not None else None


def stay(client: Client, run_id: UUID, *, json: bool) -> None:
    """Show a run until it has ended, print what it produced, and leave with 1 unless it completed."""
    from orchestrator.cli.watch import follow
    from schemas.runs import RunState

    try:
        view = follow(client, run_id, console(stderr=True))
    except KeyboardInterrupt:
        typer.secho(f"The run goes on: baton runs watch {run_id}", fg="cyan", err=True)
        raise
    if json:
        print_json(view)
    elif view.state is RunState.COMPLETED:
        show_output(view)
    else:
        _say_why(view)
    if view.state is not RunState.COMPLETED:
        raise typer.Exit(1)


def _say_why(view: RunView) -> None:
    from orchestrator.cli.going_on import next_step

    # Lines of events are cut, and this one names what is to be mended
    why = "." if view.error is None else f": {view.error.message}"
    typer.secho(f"The run ended as {view.state}{why}", fg="red", err=True)
    if view.partial:
        done = ", ".join(one.path for one in view.partial[:SHOWN])
        typer.secho(f"What it came to so far ({done}): baton runs show {view.id}", fg="cyan", err=True)
    typer.secho(f"next:  {next_step(view)}", fg="cyan", err=True)
