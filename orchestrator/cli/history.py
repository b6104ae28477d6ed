"""`baton runs events|fork`: what happened in a run, and a new one that goes another way from there."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import print_json, print_table
from orchestrator.cli.runs import resolve
from orchestrator.cli.submit import stay


def events(
    run: options.Run,
    after: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Only those after this one.")] = 0,
    json: options.Json = False,
) -> None:
    """List what happened in a run. The numbers are those that `runs show --at` takes."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.watch import told

    with connected() as client:
        found = client.events(resolve(client, run), after)
    if json:
        print_json(found)
        return
    print_table(
        ["NUMBER", "TIME", "EVENT", "STEP", "WHAT"],
        [
            (one.number, one.at.astimezone().strftime("%H:%M:%S.%f")[:-3], one.kind, one.path, told(one))
            for one in found
        ],
        empty=f"There are no events after {after}.",
    )


def fork(
    run: options.Run,
    step: Annotated[
        str,
        typer.Option("--from", metavar="STEP", help="Its path, as `runs show --paths` shows it: 0/review/2."),
    ],
    given: Annotated[
        str | None,
        typer.Option("--input", metavar="JSON|@FILE|-", help="What the step is given instead of its input."),
    ] = None,
    watch: options.Watch = False,
    json: options.Json = False,
) -> None:
    """Start a new run with all that a run had done before a step; the step and what follows are done again."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.inputs import parse, read

    text = read(given)
    with connected() as client:
        origin = resolve(client, run)
        if text is None:
            handle = client.fork(origin, from_step=step)
        else:
            value = parse(text, client.step_input_schema(origin, step))
            handle = client.fork(origin, from_step=step, input=value)
        if watch:
            stay(client, handle.id, json=json)
        elif json:
            print_json({"id": handle.id, "forked_from": origin, "forked_at": step})
        else:
            typer.echo(handle.id)
            for note in client.run(handle.id).notes:
                typer.secho(note, fg="yellow", err=True)
            typer.secho(f"next:  baton runs watch {handle.id}", fg="cyan", err=True)
