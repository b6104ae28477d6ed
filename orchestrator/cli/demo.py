"""`baton demo`: a real workflow on the whole stack, from nothing to its result."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import options
from orchestrator.cli.output import console, took
from orchestrator.cli.readiness import await_pools
from orchestrator.cli.rendering import show_output
from orchestrator.cli.up import EXAMPLE, stack_of, upgrade, without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.client import Client
    from orchestrator.local.lines import Lines
    from orchestrator.local.stack import Stack
    from schemas.runs import RunView
    from schemas.workflows import Workflow

_WORKFLOW = "dependency-review"
_THINKING = "examples.impact"
"""The example whose agent is a language model, or plays one and says so."""


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", envvar="KEEP", help="Leave everything running until Ctrl-C.")
    ] = False,
    kill: Annotated[
        bool, typer.Option(help="Kill a busy worker in the middle, to show that nothing is lost.")
    ] = True,
    data_dir: options.DataDir = None,
) -> None:
    """Start everything, review this environment's dependencies with a live view, then stop everything."""
    from orchestrator.cli import environment

    environment.apply(app=f"{EXAMPLE},{_THINKING}", data_dir=data_dir)
    found = environment.loaded()
    workflow = found.workflow(_WORKFLOW)
    with _quiet_lines() as lines:
        stack = stack_of(found, flower=True, lines=lines)
        try:
            _start(stack)
            with environment.connected() as client:
                await_pools(client, stack, look_at=f"{stack.data_dir}/demo.log")
                view = _show(client, stack, workflow, {}, kill=kill)
                _count(view)
                typer.secho("\nAn agent that thinks for itself.", bold=True, nl=False)
                typer.echo(f" {found.specs['analyst'].description}")
                thought = _show(client, stack, found.workflow("impact"), "pydantic", kill=False)
                _count_calls(thought)
            _suggest(stack, view, keep=keep)
            if keep:
                stack.supervisor.run()
        finally:
            typer.echo("Stopping everything …", err=True)
            stack.stop()
    if {view.state, thought.state} != {"completed"}:
        raise typer.Exit(1)


@contextmanager
def _quiet_lines() -> Iterator[Lines]:
    """Where the processes of the demo write: a file beside their data, not over the live view."""
    from rich.console import Console

    from orchestrator.local.lines import Lines
    from schemas.settings import settings

    folder = settings().data_dir
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "demo.log").open("w") as log:
        yield Lines(Console(file=log, width=200))


def _start(stack: Stack) -> None:
    began = time.monotonic()
    typer.echo(f"Starting PostgreSQL, Redis and {len(stack.pools)} worker pools in {stack.data_dir} …")
    stack.start(prepare=upgrade)
    typer.echo(f"  servers answer and the tables are there ({took(time.monotonic() - began)})")


def _show(client: Client, stack: Stack, workflow: Workflow, given: Any, *, kill: bool) -> RunView:
    from orchestrator.cli.sabotage import Sabotage
    from orchestrator.cli.watch import follow

    handle = client.submit(workflow, given)
    typer.echo(f"  submitted {workflow.name} as run {handle.id}\n")
    screen = console()
    with Sabotage(client, stack, handle.id, screen) if kill else nullcontext():
        view = follow(client, handle.id, screen)
    typer.echo()
    if view.state == "completed":
        show_output(view, readable=True)
    return view


def _count(view: RunView) -> None:
    """Say in numbers what a reader of the tree has to believe."""
    done = sum(step.state == "done" for step in view.steps)
    lost = sum(step.losses for step in view.steps)
    typer.secho(f"\n{done:,} of {len(view.steps):,} steps are done.", bold=True, nl=False)
    again = "attempt was" if lost == 1 else "attempts were"
    typer.echo(f" {lost:,} {again} lost with a killed worker and made again." if lost else "")


def _count_calls(view: RunView) -> None:
    usage = view.totals.usage
    typer.secho(f"\n{usage.model_calls:,} model calls, {usage.tokens:,} tokens", bold=True, nl=False)
    typer.echo(f", ${usage.usd:.4f}; each one is in the journal of its step, and would not be made again.")


def _suggest(stack: Stack, view: RunView, *, keep: bool) -> None:
    typer.secho("\nWhat to try next:", bold=True)
    if "VIRTUAL_ENV" not in os.environ:
        typer.echo(f"  . {Path(sys.prefix) / 'bin' / 'activate'}")
    if not keep:
        typer.echo("  make demo KEEP=1     the same, and everything stays up")
        typer.echo(f"  baton up --app {EXAMPLE}")
        typer.echo(
            "                       the same stack in the foreground, on the same data; then, beside it:"
        )
        typer.echo(f"  baton runs show {view.id}")
        typer.echo(
            f"  Flower               {stack.flower_url} while the stack is up; `baton up` prints its address"
        )
        return
    typer.echo(f"  baton runs show {view.id}")
    typer.echo(f"  baton run {_WORKFLOW} --app {EXAMPLE} --watch")
    typer.echo("  baton pools ls")
    typer.echo(f"  Flower    {stack.flower_url}")
    typer.echo(f"  Postgres  {without_password(stack.urls.database_url)}")
    typer.echo("Ctrl-C stops everything.")
