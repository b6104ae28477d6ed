"""`baton tools` and `baton runs tools`: what agents may have done for them, and what they had done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli import options
from orchestrator.cli.output import as_json, print_json, print_table
from orchestrator.cli.runs import resolve

if TYPE_CHECKING:
    from schemas.limits import Limit
    from schemas.tools import ToolRecord, ToolSpec

app = typer.Typer(no_args_is_help=True, help="What agents may have done for them.")

_WIDE = 80  # characters of arguments and results in a table


@app.command("ls")
def ls(app: options.App = None, json: options.Json = False) -> None:
    """List the tools of the app, with the agents that may call them: an agent sees no others."""
    from orchestrator.cli import environment
    from orchestrator.tool_calls.listing import listed

    environment.apply(app=app)
    found = listed(environment.loaded())
    if json:
        print_json(found)
        return
    print_table(
        ["TOOL", "AGENTS", "RISK", "TIMEOUT", "LIMITS", "CACHE", "INSTEAD"],
        [
            (one.name, _agents(one.agents, one.asks), *_facts(one.spec))
            for one in sorted(found, key=lambda one: one.name)
        ],
        empty="This app has no tools. Declare one: @tool on a typed function, or llm_agent(tools=[...])",
    )


def calls(run: options.Run, json: options.Json = False) -> None:
    """List the calls of tools that a run has made, in the order in which they ended."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.tool_calls(resolve(client, run))
    if json:
        print_json(found)
        return
    print_table(
        ["STEP", "TRY", "TOOL", "TOOK", "ARGUMENTS", "GAVE"],
        [
            (
                f"{one.path} {one.agent}",
                one.attempt,
                _name(one),
                _took(one),
                _short(as_json(one.arguments)),
                _gave(one),
            )
            for one in found
        ],
        empty="No tool was called in this run.",
    )


def _agents(agents: tuple[str, ...], asks: tuple[str, ...]) -> str:
    return ", ".join(f"{agent} (asks first)" if agent in asks else agent for agent in agents)


def _facts(spec: ToolSpec | None) -> tuple[Any, ...]:
    if spec is None:
        return ("", "", "", "", "")
    return (
        spec.risk,
        f"{spec.timeout:g} s" if spec.timeout else "",
        ", ".join(_limit(limit) for limit in spec.limits),
        f"{spec.cache:g} s{' for all' if spec.cache_shared else ''}" if spec.cache else "",
        " then ".join(spec.fallbacks),
    )


def _limit(limit: Limit) -> str:
    parts = [f"{limit.concurrency} at a time" if limit.concurrency else "", limit.rate or ""]
    each = {"agent": "", "tenant": " per tenant", "key": f" per {limit.key}"}[limit.per]
    return f"{' and '.join(part for part in parts if part)}{each}"


def _name(one: ToolRecord) -> str:
    return one.tool if one.part_of is None else f"{one.part_of}: {one.tool}"


def _took(one: ToolRecord) -> str:
    told = [f"{1000 * one.seconds:,.0f} ms"]
    told += ["cached"] if one.cached else []
    told += ["its thread ran on"] if one.runs_on else []
    return ", ".join(told)


def _gave(one: ToolRecord) -> str:
    return f"! {_short(one.error)}" if one.error is not None else _short(as_json(one.result))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDE else f"{line[:_WIDE]}…"
