"""`baton subscriptions`: which events start runs of which workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import ago, print_json, print_table, took

if TYPE_CHECKING:
    from schemas.subscriptions import SubscriptionView

app = typer.Typer(no_args_is_help=True, help="Which events start runs of which workflow.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the subscription.")]


@app.command("deploy")
def deploy(app: options.App = None, json: options.Json = False) -> None:
    """Make what the app declares with `on(...)` what events start, also where a newer version was deployed before."""
    from orchestrator.cli import environment

    environment.apply(app=app)
    found = environment.loaded()
    with environment.connected() as client:
        changed = client.subscriptions.deploy(found.reactions.values())
    if json:
        print_json({"deployed": changed, "unchanged": sorted(set(found.reactions) - set(changed))})
    elif not found.reactions:
        typer.echo("The app declares none: on(TYPE, start=WORKFLOW).")
    else:
        typer.echo(f"New or changed: {', '.join(changed) or 'none'}, of {len(found.reactions)}.")


@app.command("ls")
def ls(json: options.Json = False) -> None:
    """List the subscriptions."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.subscriptions.all()
    if json:
        print_json(found)
        return
    print_table(
        ["NAME", "TYPE", "STARTS", "WHEN", "KEY", "PACE", "VERSION", "STARTED", "HELD", "SET ASIDE"],
        [
            (
                s.name,
                s.type,
                s.start,
                s.when or "",
                s.key or "",
                _pace(s),
                s.version,
                s.started,
                s.held,
                s.failed,
            )
            for s in found
        ],
        empty="There are no subscriptions. Declare one in an app with on(TYPE, start=WORKFLOW), and start a worker.",
    )


@app.command("show")
def show(name: Name, json: options.Json = False) -> None:
    """Show a subscription."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        one = client.subscriptions.get(name)
    if json:
        print_json(one)
        return
    lines = [
        ("type", one.type),
        ("starts", one.start),
        ("when", one.when or "always"),
        ("key", one.key or "that of the event"),
        ("input", one.input or "the payload"),
        ("pace", _pace(one) or "every event starts a run"),
        ("version", f"{one.version}, deployed {ago(one.deployed_at)}"),
        ("events", f"{one.started} started a run, {one.held} are held back, {one.failed} are set aside"),
        ("state", "on" if one.enabled else "paused"),
    ]
    for what, value in lines:
        typer.echo(f"{what:10}{value}")


@app.command("pause")
def pause(name: Name, json: options.Json = False) -> None:
    """Let events pass a subscription by until it is resumed."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        client.subscriptions.pause(name)
        _report(client.subscriptions.get(name), json=json)


@app.command("resume")
def resume(name: Name, json: options.Json = False) -> None:
    """Let a subscription react to what comes from now on."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        client.subscriptions.resume(name)
        _report(client.subscriptions.get(name), json=json)


@app.command("rm")
def rm(name: Name, json: options.Json = False) -> None:
    """Forget a subscription until it is deployed again; runs that it has started go on."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        client.subscriptions.remove(name)
    if json:
        print_json({"name": name, "removed": True})
    else:
        typer.echo(f"{name} is gone.")


def _report(one: SubscriptionView, *, json: bool) -> None:
    if json:
        print_json(one)
    else:
        typer.echo(f"{one.name} is {'on' if one.enabled else 'paused'}.")


def _pace(one: SubscriptionView) -> str:
    quiet = [f"after {took(one.debounce.quiet)} of quiet"] if one.debounce else []
    seldom = [f"once in {took(one.throttle)}"] if one.throttle else []
    return ", ".join([*quiet, *seldom]) + (f", {one.take}" if quiet or seldom else "")
