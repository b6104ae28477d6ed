"""`baton workflows` and `baton plan`: what can run, and what it can cost at most."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import options
from orchestrator.cli.output import as_json, print_json, print_table, took

if TYPE_CHECKING:
    from schemas.workflows import Workflow

app = typer.Typer(no_args_is_help=True, help="The workflows that can run.")


@app.command("ls")
def ls(app: options.App = None, json: options.Json = False) -> None:
    """List the workflows of the app; without an app, those that the database knows."""
    from orchestrator.cli import environment
    from schemas.settings import settings

    environment.apply(app=app)
    if settings().app:
        found = sorted(environment.loaded().workflows.values(), key=lambda one: one.name)
    else:
        with environment.connected() as client:
            found = client.workflows()
    if json:
        print_json([_named(one) for one in found])
        return
    print_table(
        ["WORKFLOW", "VERSION", "AGENTS", "DESCRIPTION"],
        [(one.name, one.version, ", ".join(one.agents), _first_line(one.description)) for one in found],
        empty="The database knows no workflow yet. Name a module that holds some: --app MODULE",
    )


def _named(workflow: Workflow) -> dict[str, Any]:
    """What a listing says of a workflow; `workflows show` has all of it."""
    return {
        "name": workflow.name,
        "version": workflow.version,
        "id": workflow.id,
        "description": workflow.description,
        "agents": list(workflow.agents),
    }


@app.command("show")
def show(
    workflow: options.WorkflowName,
    version: Annotated[
        int | None, typer.Option(min=1, help="A stored version of it, instead of the one of the app.")
    ] = None,
    app: options.App = None,
) -> None:
    """Print the whole definition of a workflow, as JSON."""
    from orchestrator.cli import environment

    environment.apply(app=app)
    if version is None:
        print_json(environment.find_workflow(workflow))
        return
    with environment.connected() as client:
        print_json(environment.stored_version(client, workflow, version))


def plan(
    workflow: options.WorkflowName,
    app: options.App = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print only the Mermaid chart.")] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write its graph there, as an SVG picture.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if it could exceed its budget or its timeout.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show what a run of a workflow can cost at most, what it takes as input, and how it looks."""
    from orchestrator.cli import environment
    from orchestrator.planning.mermaid import mermaid as chart
    from orchestrator.planning.strict import refuse_excess

    environment.apply(app=app)
    definition = environment.find_workflow(workflow)
    if svg is not None:
        _draw(definition, svg)
    elif mermaid:
        typer.echo(chart(definition), nl=False)
    elif json:
        print_json(_facts(definition))
    else:
        _print(definition)
    if strict:
        refuse_excess(definition)


def _draw(workflow: Workflow, file: Path) -> None:
    """Raises `InputError` for a file that cannot be written."""
    from orchestrator.planning.svg import svg
    from schemas.errors import Fault, InputError

    try:
        file.write_text(svg(workflow), encoding="utf-8")
    except OSError as error:
        faults = [Fault(str(file), error.strerror or str(error))]
        raise InputError("--svg", faults, next_step="name a file that can be written") from error
    typer.secho(f"{file} shows {workflow.name}.", fg="cyan", err=True)


def _facts(workflow: Workflow) -> dict[str, Any]:
    from orchestrator.definitions.compile import compile_workflow
    from orchestrator.planning.bounds import bounds
    from orchestrator.planning.mermaid import mermaid
    from orchestrator.planning.strict import excesses, unheld
    from schemas.tree import agents_of

    worst = bounds(workflow)
    amounts = {"model_calls": worst.model_calls, "tokens": worst.tokens, "usd": worst.usd}
    return {
        "workflow": workflow.name,
        "version": workflow.version,
        "definition": workflow.id,
        "description": workflow.description,
        "bounds": {
            "steps": worst.steps,
            "calls": worst.calls,
            "attempts": worst.attempts,
            "parallel": worst.parallel,
            "depth": worst.depth,
            "runs": worst.runs,
            "seconds": worst.seconds if math.isfinite(worst.seconds) else None,
            "messages": worst.attempts,
            **{unit: amount.bound for unit, amount in amounts.items()},
            "timeout": workflow.timeout,
            "budget": workflow.budget,
        },
        "causes": {unit: dict(amount.largest(len(amount.causes))) for unit, amount in amounts.items()},
        "unknown": {unit: sorted(amount.unknown) for unit, amount in amounts.items()},
        "excesses": list(excesses(workflow)),
        "unheld": unheld(workflow),
        "state": {
            name: agent.state for name, agent in agents_of(workflow).items() if agent.state is not None
        },
        "queues": [agent.queue for agent in agents_of(workflow).values()],
        "input_schema": compile_workflow(workflow).input_schema,
        "mermaid": mermaid(workflow),
    }


def _print(workflow: Workflow) -> None:
    facts = _facts(workflow)
    worst, budget = facts["bounds"], workflow.budget
    amounts = ((budget.usd, "USD"), (budget.tokens, "tokens"), (budget.model_calls, "model calls"))
    limits = [f"{amount} {unit}" for amount, unit in amounts if amount is not None]
    typer.secho(f"{workflow.name}, version {workflow.version}", bold=True)
    if workflow.description:
        typer.echo(workflow.description)
    typer.echo()
    print_table(
        ["AT MOST", "", ""],
        [
            ("agent calls", f"{worst['calls']:,}", f"{worst['steps']:,} steps, {worst['depth']} deep"),
            ("attempts", f"{worst['attempts']:,}", "every retry used up; as many messages on the broker"),
            *(
                [("child runs", f"{worst['runs']:,}", "started by this run, or by those")]
                if worst["runs"]
                else []
            ),
            ("at a time", f"{worst['parallel']:,}", "attempts, if there are enough workers"),
            ("time", _time(worst["seconds"]), "every timeout and wait used up, no queueing"),
            *((unit.replace("_", " "), *_spending(facts, unit)) for unit in ("model_calls", "tokens", "usd")),
            ("budget", ", ".join(limits) or "no limit", ""),
        ],
        empty="",
    )
    for excess in facts["excesses"]:
        typer.secho(f"! {excess}", fg="yellow")
    if names := facts["unheld"]:
        typer.secho(f"! {_unheld(names)}", fg="yellow")
    typer.echo(f"\nqueues:  {', '.join(facts['queues'])}")
    for agent, names in facts["state"].items():
        typer.echo(f"state:   {agent} sees {', '.join(names) or 'nothing'}")
    typer.echo(f"input:   {as_json(facts['input_schema'])}\n")
    typer.echo(facts["mermaid"], nl=False)


def _time(seconds: float | None) -> str:
    return "no bound" if seconds is None else took(seconds)


def _spending(facts: dict[str, Any], unit: str) -> tuple[str, str]:
    """What can be spent at most, and who spends most of it or does not say."""
    value, causes, silent = facts["bounds"][unit], facts["causes"][unit], facts["unknown"][unit]
    most = ", ".join(f"{agent} {_amount(share)}" for agent, share in list(causes.items())[:3] if share)
    if value is not None:
        return _amount(value), f"most: {most}" if most else "no agent takes any"
    told = f"no bounds declared by {', '.join(silent[:3])}{' and others' if len(silent) > 3 else ''}"
    return "unknown", f"{told}; known: {most}" if most else told


def _unheld(names: list[str]) -> str:
    """That a budget cannot hold these."""
    told = f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
    return (
        f"the budget learns only at their ends what attempts of {told} consume by themselves (ctx.spend), so several "
        "at a time can exceed it: say the most with bounds=Bounds(...), and it is set aside"
    )


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.4g}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
