"""`baton budgets` and `baton costs`: what may be consumed, and what was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli import options
from orchestrator.cli.output import print_json, print_table

if TYPE_CHECKING:
    from schemas.budgets import StandingBudget

app = typer.Typer(
    no_args_is_help=True, help="What tenants, agents and everybody may consume per hour, day or month."
)

Scope = Annotated[Literal["tenant", "agent", "all"], typer.Argument(help="Of whom.")]
Name = Annotated[str, typer.Argument(metavar="[NAME]", help="Of which tenant or agent; `all` has no name.")]
Per = Annotated[
    Literal["hour", "day", "month"],
    typer.Option(help="The window of time; days and months are those of UTC."),
]


@app.command("set")
def put(
    scope: Scope,
    name: Name = "",
    usd: Annotated[float | None, typer.Option(help="US dollars.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Input and output tokens.")] = None,
    calls: Annotated[int | None, typer.Option(help="Calls of models.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds of work, attempts added up.")] = None,
    per: Per = "day",
    json: options.Json = False,
) -> None:
    """Set a budget; it holds from the next model call on. What its window has cost before counts."""
    from orchestrator.cli.environment import connected
    from orchestrator.standing_budgets import budget_of
    from schemas.errors import Fault, InputError

    if (usd, tokens, calls, seconds) == (None, None, None, None):
        fault = Fault("", "say how much: --usd, --tokens, --calls or --seconds")
        raise InputError("A budget", [fault], next_step=_example(scope, name))
    budget = budget_of(usd=usd, tokens=tokens, model_calls=calls, seconds=seconds)
    with connected() as client:
        if scope == "agent":
            _doubt(name, client.budgets.agents())
        made = client.budgets.put(scope, name, budget, per=per)
    if json:
        print_json(made)
    else:
        typer.echo(f"{_whose(made)} may consume {_limits(made)} per {made.per}; {_used(made)} are used.")


@app.command("ls")
def ls(json: options.Json = False) -> None:
    """List the budgets, and what is used of them."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.budgets.all()
    if json:
        print_json(found)
        return
    print_table(
        ["OF", "PER", "BUDGET", "USED", "SPENT", "IN FLIGHT", "OPENS AGAIN", "SET BY"],
        [
            (
                _whose(one),
                one.per,
                _limits(one),
                _used(one),
                _amounts(one.budget, one.spent, one.seconds),
                _amounts(one.budget, one.reserved),
                f"{one.closes_at:%Y-%m-%d %H:%M} UTC",
                one.origin,
            )
            for one in found
        ],
        empty="There are no budgets but those of runs. Set one: baton budgets set tenant acme --usd 20",
    )


@app.command("rm")
def rm(scope: Scope, name: Name = "", per: Per = "day", json: options.Json = False) -> None:
    """Remove a budget; what was consumed stays counted until its window closes."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        client.budgets.remove(scope, name, per=per)
    if json:
        print_json({"scope": scope, "name": name, "per": per, "removed": True})
    else:
        typer.echo(f"The budget of {scope} {name}".rstrip() + f" per {per} is gone.")


def costs(
    by: Annotated[
        Literal["workflow", "agent", "model", "tenant", "user"],
        typer.Option(help="What to add up by; a user is what a run's label `user` says."),
    ] = "workflow",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only of the last 1d, 12h, 30m; without, of all time.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show what model calls have cost, and what agents told besides."""
    from orchestrator.cli.environment import connected
    from orchestrator.cli.inputs import seconds

    span = seconds(since, "--since") if since is not None else None
    with connected() as client:
        found = client.costs(by, since=span)
    if json:
        print_json(found)
        return
    rows: list[tuple[Any, ...]] = [
        (one.key or "-", f"{one.usd:.6f}", one.input_tokens, one.output_tokens, one.model_calls)
        for one in found
    ]
    if len(rows) > 1:
        total = (sum(one.input_tokens for one in found), sum(one.output_tokens for one in found))
        calls = sum(one.model_calls for one in found)
        rows.append(("all", f"{sum(one.usd for one in found):.6f}", *total, calls))
    print_table([by.upper(), "USD", "INPUT", "OUTPUT", "CALLS"], rows, empty="Nothing was paid for.")


def _example(scope: str, name: str) -> str:
    of = scope if scope == "all" else f"{scope} {name or 'NAME'}"
    return f"baton budgets set {of} --usd 20"


def _doubt(name: str, known: set[str]) -> None:
    """Say that nobody knows an agent: its budget may be set before its first run, but a slip of the pen is none."""
    from orchestrator.cli.environment import loaded
    from orchestrator.loading import unknown
    from schemas.settings import settings

    if name not in known and settings().app:
        known |= set(loaded().agents)
    if name not in known:
        typer.secho(f"warning: {unknown('agent', name, known, next_step='')}", fg="yellow", err=True)


def _whose(one: StandingBudget) -> str:
    return f"{one.scope} {one.name}".rstrip()


def _limits(one: StandingBudget) -> str:
    parts = one.budget.model_dump(exclude_none=True)
    return ", ".join(_amount(part, value) for part, value in parts.items())


def _amounts(budget: Any, usage: Any, seconds: float | None = None) -> str:
    """Of what is limited."""
    parts = budget.model_dump(exclude_none=True)
    known = usage.model_dump() | ({"seconds": seconds} if seconds is not None else {})
    return ", ".join(_amount(part, known[part]) for part in parts if known.get(part)) or "-"


def _amount(part: str, value: float) -> str:
    words = {"usd": "USD", "model_calls": "calls", "seconds": "s"}
    return (
        f"{value:,.6g} {words.get(part, part)}"
        if isinstance(value, float)
        else f"{value:,} {words.get(part, part)}"
    )


def _used(one: StandingBudget) -> str:
    return f"{100 * one.used:.0f} %"
