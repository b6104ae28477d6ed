"""`baton state`: what agents share, as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import ago, as_json, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.state import Versioned

app = typer.Typer(no_args_is_help=True, help="What agents share: values of runs and keys, conversations.")

Tenant = Annotated[str, typer.Option(help="Whose.")]


@app.command("key")
def key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As in ctx.shared(KEY).")],
    tenant: Tenant = "default",
    json: options.Json = False,
) -> None:
    """Show what the runs of a tenant share that name a key."""
    from orchestrator.cli.environment import connected
    from schemas.state import Scope

    with connected() as client:
        _show(client.shared.values(tenant, Scope.KEY, key), json=json)


@app.command("run")
def run(run: options.Run, json: options.Json = False) -> None:
    """Show what the steps of a run share."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.runs import resolve
    from schemas.state import Scope

    with connected() as client:
        found = client.run(resolve(client, run))
        _show(client.shared.values(found.tenant, Scope.RUN, str(found.id)), json=json)


@app.command("session")
def session(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As in ctx.session(KEY).")],
    tenant: Tenant = "default",
    last: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many, the latest.")] = 50,
    json: options.Json = False,
) -> None:
    """Show a conversation, the latest message at the end."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.shared.conversation(tenant, key, last)
    if json:
        print_json(found)
        return
    print_table(
        ["N", "CAME", "RUN", "STEP", "MESSAGE"],
        [(one.number, ago(one.at), one.run_id, one.path, as_json(one.message)) for one in found],
        empty="Nothing was said there.",
    )


def _show(found: Mapping[str, Versioned], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    print_table(
        ["NAME", "VERSION", "VALUE"],
        [(name, one.version, as_json(one.value)) for name, one in found.items()],
        empty="Nothing is there.",
    )
