"""`baton breakers`: what is left alone because it kept failing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import print_json, print_table, took

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.breakers import Circuits
    from schemas.breakers import CircuitView

app = typer.Typer(
    no_args_is_help=True,
    help="Circuit breakers of agents, tools and models: look, reset.",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help='As `baton breakers ls` has it, e.g. "tool search".')
]


@app.command("ls")
def ls(json: options.Json = False) -> None:
    """List the circuits that workers have used lately, by name."""
    with _circuits() as circuits:
        found = circuits.views()
    if json:
        print_json(found)
        return
    print_table(
        ["NAME", "STATE", "FAILED", "OPENS AT"],
        [
            (one.name, _state(one), f"{one.failed} of {one.ended} in {took(one.breaker.window)}", _rule(one))
            for one in found
        ],
        empty="No circuit is known: nothing with a breaker was used lately.",
    )


@app.command("reset")
def reset(name: Name) -> None:
    """Close a circuit and forget its failures: what it leads to is tried again at once."""
    from schemas.errors import NotFound

    with _circuits() as circuits:
        if not circuits.reset(name):
            raise NotFound(f"there is no circuit {name!r}", next_step="baton breakers ls")
    typer.echo(f"The circuit of {name} is closed.")


@contextmanager
def _circuits() -> Iterator[Circuits]:
    import redis

    from orchestrator.breakers import Circuits
    from orchestrator.places import find
    from schemas.errors import Unavailable

    circuits = Circuits(find().breakers_url)
    if not circuits.reachable:
        raise Unavailable(
            "circuit breakers need a Redis, and the broker is none",
            next_step="set BATON_BREAKERS_URL=redis://host:6379/0",
        )
    try:
        yield circuits
    except (redis.RedisError, OSError) as error:
        raise Unavailable(f"Redis cannot be reached: {error}", next_step="baton doctor") from None
    finally:
        circuits.close()


def _state(one: CircuitView) -> str:
    if one.state == "open":
        return f"open for {took(one.open_for)}"
    return f"{one.state}, probing" if one.probing else one.state


def _rule(one: CircuitView) -> str:
    rule = one.breaker
    return f"{rule.failures:.0%} of {rule.minimum}, for {took(rule.open)}"
