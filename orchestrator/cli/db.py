"""`baton db`: the tables."""

from __future__ import annotations

import typer

from orchestrator.cli import options
from orchestrator.cli.output import print_json

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
