"""`baton runs cancel|pause|resume`: one run, some, or all of a workflow or with a label."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli import options
from orchestrator.cli.completion import run_ids, workflow_names
from orchestrator.cli.output import console, print_json
from orchestrator.cli.runs import resolve
from orchestrator.cli.submit import stay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from uuid import UUID

    from orchestrator.client import Client
    from orchestrator.intake.bulk import Moved
    from schemas.runs import RunState

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN...]", help="Their ids, beginnings of ids, or `last`.", autocompletion=run_ids
    ),
]
Workflow = Annotated[
    str | None, typer.Option(help="All runs of this workflow.", autocompletion=workflow_names)
]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="All runs with this label; may be repeated: those with all."),
]
Tenant = Annotated[str | None, typer.Option(help="All runs of this tenant.")]
Reason = Annotated[str, typer.Option(help="Kept with the run.")]

_MANY = 20  # runs that are named one by one when they were moved


def cancel(
    runs: Runs = None,
    workflow: Workflow = None,
    label: Label = None,
    tenant: Tenant = None,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before many are cancelled.")] = False,
    json: options.Json = False,
) -> None:
    """Stop runs for good: nothing of them starts any more, and running steps are stopped."""
    from orchestrator.cli.environment import connected
    from schemas.runs import RUN_LIVE

    with connected() as client:
        found = _chosen(client, runs, workflow, label, tenant, states=RUN_LIVE)
        if not runs:
            _confirm(len(found), yes=yes)
        _move_all(found, partial(client.cancel, reason=reason), "cancelled", named=bool(runs), json=json)


def pause(
    runs: Runs = None,
    workflow: Workflow = None,
    label: Label = None,
    tenant: Tenant = None,
    reason: Reason = "",
    json: options.Json = False,
) -> None:
    """Let nothing more of these runs start until they are resumed; what runs may finish, deadlines stand still."""
    from orchestrator.cli.environment import connected
    from schemas.runs import RUN_LIVE, RunState

    with connected() as client:
        found = _chosen(client, runs, workflow, label, tenant, states=RUN_LIVE - {RunState.PAUSED})
        _move_all(found, partial(client.pause, reason=reason), "paused", named=bool(runs), json=json)


def resume(
    runs: Runs = None,
    workflow: Workflow = None,
    label: Label = None,
    tenant: Tenant = None,
    state: Annotated[
        Literal["paused", "failed"], typer.Option(help="Of a workflow, label or tenant: which runs.")
    ] = "paused",
    watch: options.Watch = False,
    json: options.Json = False,
) -> None:
    """Let paused runs go on, and failed ones from their last good steps; nothing that was done is done again."""
    from orchestrator.cli.environment import connected
    from schemas.runs import RunState

    if watch and len(runs or ()) != 1:
        raise typer.BadParameter("--watch needs one run.")
    with connected() as client:
        found = _chosen(client, runs, workflow, label, tenant, states={RunState(state)})
        if watch:
            client.resume(found[0])
            stay(client, found[0], json=json)
        else:
            _move_all(found, client.resume, "resumed", named=bool(runs), json=json)


def _chosen(
    client: Client,
    runs: Sequence[str] | None,
    workflow: str | None,
    label: Sequence[str] | None,
    tenant: str | None,
    *,
    states: Iterable[RunState],
) -> list[UUID]:
    """The runs that are named, or those in one of `states` that the options describe."""
    from orchestrator.cli.inputs import labels
    from orchestrator.intake.bulk import Selection

    described = workflow is not None or bool(label) or tenant is not None
    if bool(runs) == described:
        raise typer.BadParameter("Either name runs, or say which with --workflow, --label or --tenant.")
    if runs:
        return list(dict.fromkeys(resolve(client, run) for run in runs))
    return client.select(Selection(workflow, labels(list(label or ())), tenant), states)


def _confirm(count: int, *, yes: bool) -> None:
    from schemas.errors import Conflict

    if yes or not count:
        return
    what = f"{count:,} run{'s' if count > 1 else ''}"
    if not sys.stdin.isatty():
        raise Conflict(f"{what} would be cancelled, which cannot be undone", next_step="say so with --yes")
    typer.confirm(f"Cancel {what}? That cannot be undone.", abort=True, err=True)


def _move_all(
    runs: Sequence[UUID], move: Callable[[UUID], object], done: str, *, named: bool, json: bool
) -> None:
    """Move them and say so; a named one that refuses is an error, one of many that ended meanwhile is not."""
    from orchestrator.cli.errors import tell
    from orchestrator.intake.bulk import move_each

    moved = list(_shown(move_each(runs, move), len(runs)))
    refused = [(one.run_id, one.refusal) for one in moved if one.refusal is not None]
    changed = [one.run_id for one in moved if one.refusal is None]
    if json:
        reasons = [{"id": run_id, "reason": str(refusal)} for run_id, refusal in refused]
        print_json({done: changed, "refused": reasons})
    else:
        _report(changed, done)
    if named:
        for _, refusal in refused:
            tell(refusal)
        raise typer.Exit(1 if refused else 0)
    if refused:
        typer.echo(f"{len(refused):,} stayed as they were; the first: {refused[0][1]}", err=True)


def _report(changed: Sequence[UUID], done: str) -> None:
    for run_id in changed if len(changed) <= _MANY else ():
        typer.echo(f"{run_id} was {done}.")
    if len(changed) > _MANY:
        typer.echo(f"{len(changed):,} runs were {done}.")
    elif not changed:
        typer.echo(f"No run was {done}.")


def _shown(moved: Iterator[Moved], count: int) -> Iterator[Moved]:
    """The same, with a bar on a terminal when there are many."""
    where = console(stderr=True)
    if count <= _MANY or not where.is_terminal:
        return moved
    from rich.progress import track

    return iter(track(moved, total=count, description="", console=where, transient=True))
