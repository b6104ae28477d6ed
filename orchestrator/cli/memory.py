"""`baton memory`: what agents remember beyond a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import ago, print_json, print_table

if TYPE_CHECKING:
    from datetime import datetime

app = typer.Typer(no_args_is_help=True, help="What agents remember beyond a run.")

Tenant = Annotated[str, typer.Option(help="Whose.")]
Key = Annotated[
    str | None, typer.Option(help="Only what is about this key; '' is about nobody in particular.")
]
SHOWN = 120
"""Characters of a memory in a listing; --json has all of them."""


@app.command("ls")
def ls(
    tenant: Tenant = "default",
    key: Key = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the latest.")] = 50,
    json: options.Json = False,
) -> None:
    """List memories, the latest first."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.memory.memories(tenant, key, limit)
    if json:
        print_json(found)
        return
    print_table(
        ["ID", "KEY", "KIND", "REMEMBERED", "EXPIRES", "RUN", "TEXT"],
        [
            (m.id, m.key, m.kind, ago(m.remembered_at), _until(m.expires_at), m.run_id, _shown(m.text))
            for m in found
        ],
        empty=f"Nothing is remembered for tenant {tenant}{_about(key)}; --tenant names another.",
    )


@app.command("search")
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for.")],
    tenant: Tenant = "default",
    key: Key = None,
    most: Annotated[int, typer.Option(min=1, max=100, help="At most so many, the best.")] = 10,
    language: Annotated[str, typer.Option(help="As in memory(language=...).")] = "english",
    json: options.Json = False,
) -> None:
    """Look memories up by their words. Agents also look by meaning, where vectors are made; this does not."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.memory.search(tenant, key, query, most, language)
    if json:
        print_json(found)
        return
    print_table(
        ["ID", "SCORE", "KEY", "KIND", "REMEMBERED", "TEXT"],
        [(m.id, f"{m.score:.2f}", m.key, m.kind, ago(m.remembered_at), _shown(m.text)) for m in found],
        empty=f"Nothing for tenant {tenant}{_about(key)} has any of these words; --tenant names another.",
    )


@app.command("forget")
def forget(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="As `baton memory ls` names them.")
    ] = None,
    tenant: Tenant = "default",
    key: Annotated[str | None, typer.Option(help="All that is about this key.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that this tenant remembers.")] = False,
    json: options.Json = False,
) -> None:
    """Forget memories for good. The events of runs name them still, and do not tell what they said."""
    from orchestrator.cli.environment import connected

    if [bool(ids), key is not None, every].count(True) != 1:
        raise typer.BadParameter("Name memories by their ids, or --key KEY, or --all.")
    with connected() as client:
        gone = client.memory.forget(tenant, ids or None, key)
    if json:
        print_json({"forgotten": gone})
    else:
        typer.echo(f"Forgot {gone:,} {'memory' if gone == 1 else 'memories'}.")


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


def _until(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _about(key: str | None) -> str:
    if key is None:
        return ""
    return f" about {key}" if key else " about nobody in particular"
