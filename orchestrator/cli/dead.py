"""`baton dead`: what was set aside, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import ago, as_json, print_json, print_table, took

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.dead_letters import DeadLetters
    from schemas.dead_letters import AttemptView, DeadLetter, DeadLetterView

app = typer.Typer(
    no_args_is_help=True,
    help="Steps that cost one worker after the other, and messages that nobody could run: look, retry, drop.",
)

Letter = Annotated[int, typer.Argument(metavar="ID", help="Its number in `baton dead ls`.")]
Letters = Annotated[list[int], typer.Argument(metavar="ID...", help="Their numbers in `baton dead ls`.")]


@app.command("ls")
def ls(
    settled: Annotated[bool, typer.Option("--all", help="Also those that were retried or dropped.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, latest first.")] = 50,
    json: options.Json = False,
) -> None:
    """List what was set aside and waits for a decision, the latest first."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.dead.list(all=settled, limit=limit)
    if json:
        print_json(found)
        return
    print_table(
        ["ID", "WHAT", "WORKFLOW", "QUEUE", "REASON", "SET ASIDE", "STATE"],
        [
            (d.id, _what(d), d.workflow or "", d.queue, _line(d.reason), ago(d.at), d.settled or "open")
            for d in found
        ],
        empty="Nothing is set aside.",
    )


@app.command("show")
def show(letter: Letter, json: options.Json = False) -> None:
    """Show one with its history: who had it, for how long, and what came of it."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.dead.show(letter)
    if json:
        print_json(found)
        return
    state = f"{found.settled} {ago(found.settled_at)}" if found.settled_at else "open"
    typer.secho(f"{_what(found)} · {state}", bold=True)
    typer.echo(f"{found.reason}; set aside {ago(found.at)}, from the queue {found.queue}")
    if found.attempts:
        print_table(
            ["ATTEMPT", "STATE", "WORKER", "POOL", "STARTED", "TOOK", "ERROR"],
            [_attempt_row(one) for one in found.attempts],
            empty="",
        )
    else:
        typer.echo(as_json(found.message, indent=2))
    _advise(found)


@app.command("retry")
def retry(
    letters: Annotated[
        list[int] | None, typer.Argument(metavar="[ID...]", help="Their numbers in `baton dead ls`.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every step that is set aside.")] = False,
    json: options.Json = False,
) -> None:
    """Try steps once more, their losses forgotten, or send messages again to workers that serve them now."""
    from orchestrator.cli.environment import connected

    if bool(letters) == every:
        raise typer.BadParameter("Either name dead letters, or say --all for every step that is set aside.")
    chosen: Sequence[int] = letters or []
    if every:
        with connected() as client:
            chosen = client.dead.steps()
    _settle(chosen, lambda dead: dead.retry, json=json)


@app.command("drop")
def drop(letters: Letters, json: options.Json = False) -> None:
    """Give steps up, so that their runs go on without them as far as they can, or forget messages."""
    _settle(letters, lambda dead: dead.drop, json=json)


def _settle(
    letters: Sequence[int], verb: Callable[[DeadLetters], Callable[[int], None]], *, json: bool
) -> None:
    """Settle all that can be; leave with 1 if one could not."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.errors import tell
    from schemas.errors import Conflict, NotFound

    settled, refused = [], []
    with connected() as client:
        for letter in dict.fromkeys(letters):
            try:
                verb(client.dead)(letter)
            except (Conflict, NotFound) as refusal:
                refused.append(refusal)
            else:
                settled.append(client.dead.show(letter))
    if json:
        print_json(settled)
    for one in settled if not json else ():
        typer.echo(f"{one.id}, {_what(one)}, was {one.settled}.")
    if not json and not settled and not refused:
        typer.echo("Nothing is set aside.")
    for error in refused:
        tell(error)
    if refused:
        raise typer.Exit(1)


def _what(letter: DeadLetter) -> str:
    return f"step {letter.path} of {letter.run_id}" if letter.run_id else "message"


def _line(text: str) -> str:
    """A reason in one line of a table."""
    line = text.partition("\n")[0]
    return line if len(line) <= 70 else f"{line[:69]}…"


def _attempt_row(one: AttemptView) -> tuple[object, ...]:
    error = _line(f"{one.error.type}: {one.error.message}") if one.error else ""
    time = took((one.finished_at - one.started_at).total_seconds())
    return (one.attempt, one.state, one.worker or "?", one.pool or "", ago(one.started_at), time, error)


def _advise(found: DeadLetterView) -> None:
    if found.settled is None:
        advice = f"next:  baton dead retry {found.id}, or to go on without it: baton dead drop {found.id}"
    elif found.run_id:
        advice = f"next:  baton runs show {found.run_id}"
    else:
        return
    typer.secho(advice, fg="cyan", err=True)
