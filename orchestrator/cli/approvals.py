"""`baton approvals`: what people are asked, and what they decide."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import options
from orchestrator.cli.output import ago, as_json, print_json, print_table, took

if TYPE_CHECKING:
    from datetime import datetime

    from schemas.waits import Approval, WaitView

app = typer.Typer(
    no_args_is_help=True,
    help="What runs wait for people to decide: look, approve, edit, reject, answer.",
)

Id = Annotated[int, typer.Argument(metavar="ID", help="Its number in `baton approvals ls`.")]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides; without it, the login name.")
]
Reason = Annotated[str, typer.Option(help="Kept with the decision.")]


@app.command("ls")
def ls(
    decided: Annotated[bool, typer.Option("--all", help="Also what is decided.")] = False,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only of this run.")] = None,
    person: Annotated[
        str | None, typer.Option("--for", metavar="NAME", help="Only what this person may decide.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, latest first.")] = 50,
    json: options.Json = False,
) -> None:
    """List what waits for a decision, the latest first."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.runs import resolve

    with connected() as client:
        run_id = resolve(client, run) if run is not None else None
        found = client.approvals(all=decided, run_id=run_id, person=person, limit=limit)
    if json:
        print_json(found)
        return
    print_table(
        ["ID", "WHAT", "WORKFLOW", "STEP", "FOR", "ASKED", "EXPIRES", "STATE"],
        [
            (
                one.id,
                _what(one),
                one.workflow,
                f"{one.path} of {one.run_id}",
                ", ".join(one.audience) or "anybody",
                ago(one.asked_at),
                _left(one.expires_at),
                f"{one.decision} by {one.settled_by}" if one.settled_at else "open",
            )
            for one in found
        ],
        empty="Nothing waits for a decision.",
    )


@app.command("show")
def show(id: Id, json: options.Json = False) -> None:
    """Show one with what is to be approved, and what an edited payload or an answer must be like."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.approval(id)
    if json:
        print_json(found)
        return
    _print(found)


@app.command("approve")
def approve(
    id: Id,
    by: By = None,
    edit: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|-", help="Let it go on with this in place of what is there."),
    ] = None,
    reason: Reason = "",
    json: options.Json = False,
) -> None:
    """Let it go on, as it is or edited."""
    from orchestrator.cli.environment import connected

    edited = {} if edit is None else {"payload": _json(edit)}
    with connected() as client:
        _told(client.approve(id, by=by or _login(), reason=reason, **edited), json=json)


@app.command("reject")
def reject(id: Id, by: By = None, reason: Reason = "", json: options.Json = False) -> None:
    """Let its step fail."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        _told(client.reject(id, by=by or _login(), reason=reason), json=json)


@app.command("answer")
def answer(
    id: Id,
    value: Annotated[
        str, typer.Argument(metavar="ANSWER|@FILE|-", help="JSON, or a text where a text is wanted.")
    ],
    by: By = None,
    reason: Reason = "",
    json: options.Json = False,
) -> None:
    """Answer what an agent has asked; it goes on where it was."""
    from orchestrator.cli import inputs
    from orchestrator.cli.environment import connected

    text = inputs.read(value)
    with connected() as client:
        found = client.approval(id)
        given = text if found.takes.get("type") == "string" else inputs.data(text or "")
        _told(client.answer(id, given, by=by or _login(), reason=reason), json=json)


def _json(given: str) -> Any:
    """The JSON that was typed, or that is in the file. Raises `InputError`."""
    from json import JSONDecodeError, loads

    from orchestrator.cli import inputs
    from schemas.errors import Fault, InputError

    try:
        return loads(inputs.read(given) or "")
    except JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise InputError("--edit", [Fault("", f"it is not JSON ({where})")]) from None


def _login() -> str:
    """Raises `InputError` where nobody is logged in."""
    from schemas.errors import Fault, InputError

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise InputError("--by", [Fault("", "this user has no name: say who decides")]) from None


def _what(one: WaitView) -> str:
    text = one.key if one.kind == "question" else f"approve {one.key}"
    return text if len(text) <= 60 else f"{text[:59]}…"


def _left(moment: datetime | None) -> str:
    from datetime import UTC, datetime

    return "" if moment is None else f"in {took(max(0.0, (moment - datetime.now(UTC)).total_seconds()))}"


def _told(found: Approval, *, json: bool) -> None:
    if json:
        print_json(found)
        return
    typer.echo(f"{found.id}, {_what(found)}, was {found.decision} by {found.settled_by}.")
    typer.secho(f"next:  baton runs watch {found.run_id}", fg="cyan", err=True)


def _print(found: Approval) -> None:
    state = f"{found.decision} by {found.settled_by} {ago(found.settled_at)}" if found.settled_at else "open"
    typer.secho(f"{found.key} · {state}", bold=True)
    typer.echo(f"step {found.path} of run {found.run_id}, {found.workflow}; asked {ago(found.asked_at)}")
    for name in ("message", "risk", "reason"):
        if found.request.get(name):
            typer.echo(f"{name}: {found.request[name]}")
    if found.reason:
        typer.echo(f"decided because: {found.reason}")
    if found.audience:
        typer.echo(f"for: {', '.join(found.audience)}")
    if found.expires_at:
        typer.echo(f"expires {_left(found.expires_at)}")
    shown = found.payload if found.kind == "approval" else found.request.get("context")
    if shown is not None:
        typer.echo(as_json(shown, indent=2))
    if found.answer is not None:
        typer.echo(f"given: {as_json(found.answer)}")
    if found.settled_at is None and found.takes:
        typer.echo(f"{'answer' if found.kind == 'question' else 'edited payload'}: {as_json(found.takes)}")
    if found.settled_at is None:
        verbs = f"answer {found.id} ANSWER" if found.kind == "question" else f"approve|reject {found.id}"
        typer.secho(f"next:  baton approvals {verbs}", fg="cyan", err=True)
