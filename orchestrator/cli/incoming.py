"""`baton events`: what happened outside, and what it started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import ago, as_json, print_json, print_table

if TYPE_CHECKING:
    from schemas.incoming import Delivery, IncomingEvent

app = typer.Typer(no_args_is_help=True, help="What happened outside: tell it, and see which runs it started.")

Tenant = Annotated[str | None, typer.Option(help="On whose behalf.")]
Event = Annotated[str, typer.Argument(metavar="ID", help="Its id in `baton events ls`.")]
_SHOWN = 60


@app.command("emit")
def emit(
    type: Annotated[str, typer.Argument(metavar="TYPE", help="What happened, e.g. ticket.created.")],
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="[PAYLOAD|@FILE|-]", help="JSON or a text, a file of it, or stdin; none is null."
        ),
    ] = None,
    key: Annotated[str | None, typer.Option(help="What it is about, e.g. a customer.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="An event is stored once for each id.")] = None,
    tenant: Tenant = None,
    json: options.Json = False,
) -> None:
    """Store an event; workers find what it starts and what waits for it."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.inputs import data, read

    text = read(payload)
    value = data(text) if text is not None else None
    with connected() as client:
        made = client.emit(type, value, key=key, id=id, tenant=tenant)
    if json:
        print_json(made)
        return
    typer.echo(made.id)
    if not made.created:
        typer.echo("It was there already.", err=True)
    typer.secho(f"next:  baton events show {made.id}", fg="cyan", err=True)


@app.command("load")
def load(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="Lines of JSON, or stdin.")],
    tenant: Tenant = None,
    json: options.Json = False,
) -> None:
    """Store the events of a file, each line `{"type": …, "payload": …}`, perhaps with `key` and `id`."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.inputs import read
    from orchestrator.incoming.inbox import EventLine

    lines = (read(file if file == "-" else f"@{file}") or "").splitlines()
    # All of them are read before the first is stored.
    given = [EventLine.parse(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    with connected() as client:
        made = [client.emit(one.type, one.payload, key=one.key, id=one.id, tenant=tenant) for one in given]
    if json:
        print_json(made)
    else:
        new = sum(one.created for one in made)
        typer.echo(f"{new} stored, {len(made) - new} were there already.")


@app.command("ls")
def ls(
    type: Annotated[str | None, typer.Option("--type", help="Only these.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only of this key.")] = None,
    tenant: Tenant = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that were set aside.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, latest first.")] = 50,
    json: options.Json = False,
) -> None:
    """List events, the latest first."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.inbox.recent(type=type, key=key, tenant=tenant, failed=failed, limit=limit)
    if json:
        print_json(found)
        return
    print_table(
        ["ID", "TYPE", "KEY", "CAME", "STARTED", "SET ASIDE", "PAYLOAD"],
        [
            (e.id, e.type, e.key or "", ago(e.at), _count(e, "started"), _count(e, "failed"), _payload(e))
            for e in found
        ],
        empty="There are no events. Tell one: baton events emit TYPE PAYLOAD",
    )


@app.command("show")
def show(event: Event, tenant: Tenant = None, json: options.Json = False) -> None:
    """Show an event, and what became of it at each subscription."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.inbox.find(event, tenant=tenant)
    if json:
        print_json(found)
        return
    about = f" about {found.key}" if found.key else ""
    typer.secho(f"{found.type}{about} · {ago(found.at)}", bold=True)
    typer.echo(as_json(found.payload, indent=2))
    print_table(
        ["SUBSCRIPTION", "VERSION", "STATE", "KEY", "WHAT CAME OF IT"],
        [(d.subscription, d.version, d.state, d.key or "", _outcome(d)) for d in found.deliveries],
        empty="No subscription is concerned.",
    )
    if any(d.state == "failed" for d in found.deliveries):
        typer.secho(f"next:  baton events retry {found.id}, or: drop", fg="cyan", err=True)


@app.command("retry")
def retry(
    event: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this event.")] = None,
    subscription: Annotated[str | None, typer.Option(help="Only at this subscription.")] = None,
    json: options.Json = False,
) -> None:
    """Judge events that were set aside again, by their subscriptions as they are now."""
    _settle("retry", event, subscription, json=json)


@app.command("drop")
def drop(
    event: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this event.")] = None,
    subscription: Annotated[str | None, typer.Option(help="Only at this subscription.")] = None,
    json: options.Json = False,
) -> None:
    """Give up events that were set aside."""
    _settle("drop", event, subscription, json=json)


@app.command("listen")
def listen(
    host: Annotated[str, typer.Option(help="Where it listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8088,
    tenant: Tenant = None,
) -> None:
    """Take in events as webhooks, signed with BATON_WEBHOOK_SECRET as Standard Webhooks are.

    POST / with `{"type": …, "data": …}` and perhaps a `key`, or POST /TYPE?key=KEY with the payload alone.
    """
    import uvicorn

    from orchestrator.cli.environment import connected
    from orchestrator.incoming.signatures import secrets_of
    from orchestrator.incoming.webhooks import Webhooks
    from orchestrator.masking.logs import guard_logs
    from schemas.errors import BatonError
    from schemas.settings import settings

    secrets = secrets_of(settings().webhook_secret)
    if not secrets:
        raise BatonError(
            "Without a secret anybody could send events.",
            next_step="BATON_WEBHOOK_SECRET=whsec_… (the base64 of 32 random bytes)",
        )
    with connected() as client:
        typer.echo(f"Events are taken in at http://{host}:{port}/", err=True)
        guard_logs()
        uvicorn.run(Webhooks(client.inbox, secrets, tenant=tenant), host=host, port=port, log_level="warning")


def _settle(verb: str, event: str | None, subscription: str | None, *, json: bool) -> None:
    from orchestrator.cli.environment import connected

    with connected() as client:
        number = client.inbox.find(event).number if event is not None else None
        act = client.inbox.retry if verb == "retry" else client.inbox.drop
        count = act(event=number, subscription=subscription)
    if json:
        print_json({verb: count})
    else:
        typer.echo(f"{count} {'are judged again' if verb == 'retry' else 'were dropped'}.")


def _count(event: IncomingEvent, state: str) -> int | str:
    return sum(one.state == state for one in event.deliveries) or ""


def _payload(event: IncomingEvent) -> str:
    text = as_json(event.payload)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _outcome(one: Delivery) -> str:
    return " ".join(str(part) for part in (one.run_id and f"run {one.run_id}", one.reason) if part)
