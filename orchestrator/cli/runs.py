"""`baton runs`: look at runs, follow them, stop them, let them go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli import options
from orchestrator.cli.output import (
    ago,
    as_json,
    print_json,
    print_output,
    print_table,
    took,
    unfolded,
    unsaid,
)
from orchestrator.cli.submit import stay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from orchestrator.client import Client
    from schemas.runs import RunSummary

app = typer.Typer(no_args_is_help=True, help="Look at runs, follow them, stop them, let them go on.")

State = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
_RECENT = 1000  # runs in which the beginning of an id is looked for


@app.command("ls")
def ls(
    state: Annotated[State | None, typer.Option(help="Only runs in this state.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only runs of this workflow.")] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE", help="Only runs with this label.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only runs of this tenant.")] = None,
    children: Annotated[
        bool, typer.Option("--children", help="Also runs that others started, below those.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, latest first.")] = 50,
    json: options.Json = False,
) -> None:
    """List runs, the latest first."""
    from orchestrator.cli.environment import connected
    from schemas.runs import RunState

    with connected() as client:
        found = client.runs(
            state=RunState(state) if state else None,
            workflow=workflow,
            label=label,
            tenant=tenant,
            children=children,
            limit=limit,
        )
    if json:
        print_json(found)
        return
    print_table(
        ["RUN", "WORKFLOW", "STATE", "TOOK", "SUBMITTED", "NOTE"],
        [
            (run.id, "  " * depth + run.workflow, run.state, _took(run), ago(run.created_at), _note(run))
            for run, depth in family(found)
        ],
        empty="There are no such runs. Start one: baton run WORKFLOW",
    )


@app.command("show")
def show(
    run: options.Run,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="EVENT", help="As it was after this event (see `runs events`), or at this time."
        ),
    ] = None,
    paths: Annotated[
        bool, typer.Option("--paths", help="Also each step's path, which `runs fork --from` takes.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show a run with its steps, what holds it up, and what it produced."""
    from datetime import UTC, datetime

    from orchestrator.cli.environment import connected
    from orchestrator.cli.tree import picture
    from schemas.runs import RunState

    if at is not None:
        from orchestrator.cli.moment import parse_moment, show_moment

        moment = parse_moment(at)
        with connected() as client:
            show_moment(client.run_at(resolve(client, run), moment), paths=paths, json=json)
        return
    with connected() as client:
        view = client.run(resolve(client, run))
    if json:
        print_json(view)
        return
    unfolded().print(picture(view, now=datetime.now(UTC), paths=paths))
    if view.state is RunState.COMPLETED:
        print_output(unsaid(view.output))
        return
    for one in view.partial:
        where = f"{one.path} of {one.run_id}" if one.run_id != view.id else one.path
        typer.secho(f"so far:  {where} {one.agent or ''}".rstrip(), fg="cyan", err=True)
        print_output(unsaid(one.output))
    if view.state is RunState.FAILED:
        from orchestrator.cli.going_on import next_step

        typer.secho(f"next:  {next_step(view)}", fg="cyan", err=True)


@app.command("watch")
def watch(run: options.Run, json: options.Json = False) -> None:
    """Follow a run until it ends, then print its output; --json prints one event per line instead."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        run_id = resolve(client, run)
        if not json:
            stay(client, run_id, json=False)
            return
        for event in client.stream(run_id):
            typer.echo(as_json(event))


def resolve(client: Client, text: str) -> UUID:
    """The id that `text` means: an id, the beginning of a recent one, or `last`.

    Raises `NotFound` when it means none or several.
    """
    from uuid import UUID

    from schemas.errors import NotFound

    try:
        return UUID(text)
    except ValueError:
        latest = client.runs(limit=1 if text == "last" else _RECENT)
    found = [run.id for run in latest if text == "last" or str(run.id).startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    many = f"{len(found)} runs have ids that begin with {text!r}." if found else f"There is no run {text!r}."
    raise NotFound(many, next_step="baton runs ls")


def family(runs: Sequence[RunSummary]) -> Iterator[tuple[RunSummary, int]]:
    """The runs with how deep they stand, each followed by those that it started, if they are among them."""
    known = {run.id for run in runs}
    below: dict[UUID | None, list[RunSummary]] = {}
    for run in runs:
        below.setdefault(run.parent_run if run.parent_run in known else None, []).append(run)

    def grown(parent: UUID | None, depth: int) -> Iterator[tuple[RunSummary, int]]:
        for run in below.get(parent, ()):
            yield run, depth
            yield from grown(run.id, depth + 1)

    yield from grown(None, 0)


def _took(run: RunSummary) -> str:
    if run.started_at is None or run.finished_at is None:
        return ""
    return took((run.finished_at - run.started_at).total_seconds())


def _note(run: RunSummary) -> str:
    if run.pause_reason is not None:
        return run.pause_reason.partition("\n")[0][:60]
    if run.error is not None:
        return f"{run.error.type}: {run.error.message}".partition("\n")[0][:60]
    return "degraded" if run.degraded else ""
