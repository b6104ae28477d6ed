"""`baton schedules`: start runs of a workflow again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli import options
from orchestrator.cli.output import ago, print_json, print_table, took

if TYPE_CHECKING:
    from datetime import datetime

    from schemas.schedules import Schedule

app = typer.Typer(no_args_is_help=True, help="Start runs of a workflow again and again.")

Missed = Literal["skip", "one", "all"]
Overlap = Literal["allow", "skip"]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the schedule.")]
_NEXT = 5  # times that are shown


@app.command("add")
def add(
    name: Name,
    workflow: options.WorkflowName,
    given: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT|@FILE|-]", help="JSON or a text, a file of it, or stdin; none is `{}`."
        ),
    ] = None,
    app: options.App = None,
    cron: Annotated[
        str | None, typer.Option(metavar='"0 9 * * MON-FRI"', help="Minute, hour, day, month, weekday.")
    ] = None,
    zone: Annotated[
        str, typer.Option("--tz", metavar="Europe/Berlin", help="The time zone that --cron is read in.")
    ] = "UTC",
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Instead of --cron: 30s, 5m, 1h30m, 2d.")
    ] = None,
    missed: Annotated[
        Missed,
        typer.Option(
            help="When times passed without a worker: one run for all, one for each (at most 100), or none."
        ),
    ] = "one",
    overlap: Annotated[
        Overlap,
        typer.Option(help="When a time comes while its last run goes on: another run beside it, or none."),
    ] = "allow",
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    tenant: Annotated[str | None, typer.Option(help="On whose behalf.")] = None,
    priority: Annotated[
        int | None, typer.Option(min=0, max=9, help="0 is normal, 9 the most urgent.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change the schedule of this name.")] = False,
    json: options.Json = False,
) -> None:
    """Set a schedule; its runs have the label schedule=NAME."""
    from orchestrator.cli import environment
    from orchestrator.cli.inputs import labels, parse, read, seconds
    from orchestrator.definitions.compile import compile_workflow

    environment.apply(app=app)
    labelled = labels(label or [])
    interval = seconds(every, "--every") if every is not None else None
    definition = environment.find_workflow(workflow)
    value = parse(read(given), compile_workflow(definition).input_schema)
    with environment.connected() as client:
        made = client.schedule(
            name,
            definition,
            value,
            cron=cron,
            every=interval,
            timezone=zone,
            missed=missed,
            overlap=overlap,
            tenant=tenant,
            priority=priority,
            labels=labelled,
            replace=replace,
        )
    _report(made, json=json)


@app.command("ls")
def ls(json: options.Json = False) -> None:
    """List the schedules."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.schedules.all()
    if json:
        print_json(found)
        return
    print_table(
        ["NAME", "WORKFLOW", "WHEN", "NEXT", "LAST", "LAST RUN"],
        [
            (one.name, one.workflow, _when(one), _next(one), _last(one), one.last_run_id or "")
            for one in found
        ],
        empty='There are no schedules. Set one: baton schedules add NAME WORKFLOW --cron "0 9 * * *"',
    )


@app.command("show")
def show(name: Name, json: options.Json = False) -> None:
    """Show a schedule, what its runs are started with, and its next times."""
    from itertools import islice

    from orchestrator.cli.environment import connected
    from orchestrator.cli.output import as_json
    from orchestrator.clock.timetable import upcoming

    with connected() as client:
        one = client.schedules.get(name)
    if json:
        print_json(one)
        return
    lines = [
        ("workflow", one.workflow),
        ("input", as_json(one.input)),
        ("when", _when(one)),
        ("missed", one.missed),
        ("overlap", _overlap(one)),
        ("tenant", one.tenant),
        ("priority", one.priority),
        ("labels", ", ".join(f"{name}={value}" for name, value in one.labels.items()) or "none"),
        ("last", f"{_last(one)}, run {one.last_run_id}" if one.last_run_id else "never"),
        ("state", "on" if one.enabled else "paused"),
    ]
    for what, value in lines:
        typer.echo(f"{what:10}{value}")
    if one.enabled:
        times = [one.next_at, *islice(upcoming(one, one.next_at), _NEXT - 1)]
        typer.echo("\n".join(f"{'' if n else 'next':10}{_there(one, at)}" for n, at in enumerate(times)))
    else:
        typer.secho(f"next:  baton schedules resume {one.name}", fg="cyan", err=True)


@app.command("pause")
def pause(name: Name, json: options.Json = False) -> None:
    """Let a schedule start nothing until it is resumed."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        client.schedules.pause(name)
        _report(client.schedules.get(name), json=json)


@app.command("resume")
def resume(name: Name, json: options.Json = False) -> None:
    """Let a paused schedule go on with its next time; what it missed is not made up for."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        client.schedules.resume(name)
        _report(client.schedules.get(name), json=json)


@app.command("rm")
def rm(name: Name, json: options.Json = False) -> None:
    """Forget a schedule; runs that it has started go on."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        client.schedules.remove(name)
    if json:
        print_json({"name": name, "removed": True})
    else:
        typer.echo(f"{name} is gone.")


@app.command("fire")
def fire(name: Name, watch: options.Watch = False, json: options.Json = False) -> None:
    """Start a run of a schedule now, whatever its times."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.submit import stay

    with connected() as client:
        run = client.fire_schedule(name)
        if watch:
            stay(client, run.id, json=json)
        elif json:
            print_json({"id": run.id, "schedule": name})
        else:
            typer.echo(run.id)
            typer.secho(f"next:  baton runs watch {run.id}", fg="cyan", err=True)


def _report(one: Schedule, *, json: bool) -> None:
    if json:
        print_json(one)
    elif one.enabled:
        typer.echo(f"{one.name} starts {one.workflow} {_when(one)}, next {_there(one, one.next_at)}.")
    else:
        typer.echo(f"{one.name} is paused.")


def _overlap(one: Schedule) -> str:
    return f"{one.overlap}, last left out {ago(one.left_out_at)}" if one.left_out_at else one.overlap


def _when(one: Schedule) -> str:
    return f"every {took(one.every)}" if one.every is not None else f"at {one.cron} {one.timezone}"


def _next(one: Schedule) -> str:
    return _there(one, one.next_at) if one.enabled else "paused"


def _last(one: Schedule) -> str:
    return ago(one.last_fired_at) if one.last_fired_at is not None else "never"


def _there(one: Schedule, moment: datetime) -> str:
    """A moment as the clocks of the schedule's time zone show it."""
    from zoneinfo import ZoneInfo

    return moment.astimezone(ZoneInfo(one.timezone)).strftime("%Y-%m-%d %H:%M:%S %Z")
