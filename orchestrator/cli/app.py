"""The front door: all commands under one name."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import (
    approvals,
    breakers,
    budgets,
    control,
    db,
    dead,
    demo,
    doctor,
    evaluate,
    explain,
    history,
    incoming,
    memory,
    pools,
    processes,
    runs,
    schedules,
    state,
    submit,
    subscriptions,
    tools,
    up,
    workflows,
)
from orchestrator.cli.errors import Door

app = typer.Typer(
    name="baton",
    cls=Door,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Durable AI-agent workflows: every agent a worker pool, every result a checkpoint in Postgres.",
    epilog="Try `baton demo` first; `baton doctor` finds what is misconfigured.",
)


def _show_version(wanted: bool) -> None:
    from importlib.metadata import version

    if wanted:
        typer.echo(f"baton {version('baton-agents')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="BATON_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    # `debug` is read by `Door`, which also sees errors of commands that never started.
    pass


app.command("up", rich_help_panel="Run")(up.up)
app.command("demo", rich_help_panel="Run")(demo.demo)
app.command("worker", rich_help_panel="Run")(processes.worker)
app.command("flower", rich_help_panel="Run")(processes.flower)
app.command("run", rich_help_panel="Work")(submit.run)
runs.app.command("events")(history.events)
runs.app.command("explain")(explain.explain)
runs.app.command("tools")(tools.calls)
runs.app.command("fork")(history.fork)
for command in (control.cancel, control.pause, control.resume):
    runs.app.command(command.__name__)(command)
app.add_typer(runs.app, name="runs", rich_help_panel="Work")
app.add_typer(approvals.app, name="approvals", rich_help_panel="Work")
app.add_typer(schedules.app, name="schedules", rich_help_panel="Work")
app.add_typer(incoming.app, name="events", rich_help_panel="Work")
app.add_typer(subscriptions.app, name="subscriptions", rich_help_panel="Work")
app.add_typer(state.app, name="state", rich_help_panel="Work")
app.add_typer(memory.app, name="memory", rich_help_panel="Work")
app.command("plan", rich_help_panel="Work")(workflows.plan)
app.add_typer(evaluate.app, name="eval", rich_help_panel="Work")
app.add_typer(workflows.app, name="workflows", rich_help_panel="Work")
app.add_typer(tools.app, name="tools", rich_help_panel="Work")
app.add_typer(pools.app, name="pools", rich_help_panel="Operate")
app.add_typer(pools.workers, name="workers", rich_help_panel="Operate")
app.add_typer(dead.app, name="dead", rich_help_panel="Operate")
app.add_typer(budgets.app, name="budgets", rich_help_panel="Operate")
app.add_typer(breakers.app, name="breakers", rich_help_panel="Operate")
app.command("doctor", rich_help_panel="Operate")(doctor.doctor)
app.command("costs", rich_help_panel="Operate")(budgets.costs)
app.add_typer(db.app, name="db", rich_help_panel="Operate")
