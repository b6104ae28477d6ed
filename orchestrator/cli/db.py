"""`baton db`: the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli import options
from orchestrator.cli.output import console, print_json

if TYPE_CHECKING:
    from orchestrator.prune import Pruner, Removed

app = typer.Typer(no_args_is_help=True, help="The tables in Postgres.")


@app.command("upgrade")
def upgrade(json: options.Json = False) -> None:
    """Bring the tables to what this version of Baton needs; harmless when they are."""
    from orchestrator.places import find
    from orchestrator.store import schema

    applied = schema.upgrade(find().database_url)
    if json:
        print_json({"applied": applied, "revision": schema.head()})
    else:
        typer.echo(f"Applied {', '.join(applied)}." if applied else "The tables are up to date.")


@app.command("version")
def version(json: options.Json = False) -> None:
    """Show the revision of the tables, and the one that is needed; exit code 1 if they differ."""
    from orchestrator.places import find
    from orchestrator.store import schema

    found, wanted = schema.revision(find().database_url), schema.head()
    if json:
        print_json({"revision": found, "head": wanted})
    else:
        typer.echo(f"database: {found or 'none'}\nneeded:   {wanted}")
    if found != wanted:
        typer.secho("next:  baton db upgrade", fg="cyan", err=True)
        raise typer.Exit(1)


@app.command("prune")
def prune(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Since a run ended, e.g. 30d, 12h, 45m.", show_default=False)
    ],
    state: Annotated[
        Literal["completed", "failed", "cancelled"] | None, typer.Option(help="Only runs that ended so.")
    ] = None,
    workflow: Annotated[str | None, typer.Option(help="Only runs of this workflow.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only runs of this tenant.")] = None,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Leave failed runs, which could be resumed.")
    ] = False,
    results: Annotated[
        bool,
        typer.Option("--results", help="Also results of Celery tasks that are as old, of any program."),
    ] = False,
    state_older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Also conversations, and what runs of a key share, that nobody has touched for so long.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    json: options.Json = False,
) -> None:
    """Remove runs that ended long ago, with all that is theirs; beside full work, and in any number of goes.

    An idempotency key goes with its run. Without --state, --workflow, --tenant or --keep-failed also definitions,
    workers and settled dead letters go that are as old and that nothing refers to, and memories that have expired.
    """
    from orchestrator.cli.inputs import seconds
    from orchestrator.places import find
    from orchestrator.prune import Pruner, Rule
    from schemas.runs import RUN_ENDED, RunState

    for name, age in (("--older-than", older_than), ("--state-older-than", state_older_than)):
        if age is not None and not age.strip()[-1:].isalpha():
            raise typer.BadParameter(f"{name} needs a unit, such as 30d, 12h or 45m.")
    untouched = seconds(state_older_than, "--state-older-than") if state_older_than is not None else None
    if untouched is not None and (state or workflow or tenant or keep_failed):
        raise typer.BadParameter(
            "--state-older-than is about no runs: it goes without what chooses some of them."
        )
    if keep_failed and state == "failed":
        raise typer.BadParameter("--keep-failed and --state failed exclude each other.")
    states = frozenset({RunState(state)} if state else RUN_ENDED)
    states -= {RunState.FAILED} if keep_failed else set()
    pruner = Pruner(
        find().database_url,
        Rule(seconds(older_than, "--older-than"), states, workflow, tenant, results, untouched),
    )
    removed = pruner.count() if dry_run else _removed(pruner)
    if json:
        print_json({"older_than": older_than, "dry_run": dry_run, "removed": removed})
    else:
        typer.echo(f"{'Would remove' if dry_run else 'Removed'} {_told(removed)}.")


def _removed(pruner: Pruner) -> Removed:
    """Prune, showing how far it is; what is gone stays gone if this is interrupted."""
    from orchestrator.prune import Removed

    removed = Removed()
    with console(stderr=True).status("looking for old runs ...") as status:
        for batch in pruner.batches():
            removed += batch
            status.update(f"removed {_told(removed)} ...")
    return removed


def _told(removed: Removed) -> str:
    """Such as `1,200 runs, 7,000 steps, 30,000 events`, leaving out what there is none of."""
    from dataclasses import asdict

    counts = [(name.replace("_", " "), count) for name, count in asdict(removed).items()]
    return ", ".join(f"{count:,} {name}" for name, count in counts if count or name == "runs")
